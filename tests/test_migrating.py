"""docs/migrating.md: every setting of the original is in its tables, and what they say of it is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deepgen.controller.cli import main
from deepgen.controller.cli.differences import DEFAULTS
from deepgen.kernel import registry
from deepgen.kernel.options import options_of
from deepgen.kernel.settings import KERNEL, load

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "migrating.md").read_text(encoding="utf-8")
SETTINGS = re.findall(
    r"\w+",
    """
    scene model task train_dir eval_dir pred_dir train_header eval_header predict_header train_model_header
    eval_model_header predict_model_header result_header result_file previous_dir output_dir cache_dir
    logging_dir from_tf datareader_streaming dataloader_num_workers outputter_num_workers extract_chunk
    shuffle_num_batch num_train_epochs logging_steps save_steps eval_steps save_total_limit evaluation_strategy
    load_best_model_at_end greater_is_better fp16 remove_unused_columns disable_tqdm trainer eval_metrics
    evaluate_during_training to_cache output_type eager_predict dense_gradients compress_gradients multi_tasks
    label_names label_mapping tok_max_length max_length format_level special_tokens sen_sep output_mapping
    """,
)
"""What the original declared for data and training."""
TASKS = {
    "seq2label": "num_labels num_tasks default_task cls_mode loss_rce_beta problem_type",
    "seq2seq": "max_length min_length num_beams num_beam_groups repetition_penalty length_penalty num_return_sequences "
    "no_repeat_ngram_size early_stopping diversity_penalty",
    "seq2label_unilm": "rel_pos_type rel_pos_bins max_rel_pos num_labels fast_qkv classifier_dropout",
    "guided_seq2seq": "latent_class selected_class guided_mode kl_loss_weight cls_loss_weight em max_length min_length "
    "num_beams repetition_penalty length_penalty num_return_sequences",
    "twinbert_classificationx": "temperature num_layers downscale_pooler post_xing_layers post_xing_dim "
    "load_xing_params",
    "singletwinbert_classificationx": "num_labels embed_dim temperature freeze num_layers tanh_activation",
    "selector_seq2seq": "sample_pos sample_num sample_loss_weight latent_num latent_loss_weight latent_enc_fusion",
    "multi_task_opt_seq2seq": "use_history_weight rank_alpha task_scoring_method dist_alpha loss_alpha",
    "seq2tag": "last_layer num_labels",
    "pretrain": "mlm_prob",
}
"""And for its tasks."""
HEADERS = {
    "seq2seq": "s2s_tokenize:a:b:tokens",
    "guided_seq2seq": "s2s_tokenize:a:b:tokens",
    "seq2tag": "tag_tokenize:a:b:tokens --label_mapping x:0,y:1",
}
ASKED = {
    "from_tf": "True",
    "num_tasks": "2",
    "cls_mode": "multi_class",
    "num_beam_groups": "2",
    "diversity_penalty": "0.5",
}
"""Values that ask for more than what is done in any case."""
OTHER = {"evaluation_strategy": "no", "tok_max_length": "7", "max_length": "9"}


def table(title: str) -> list[list[str]]:
    part = TEXT.partition(f"## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


ROWS = [["", *row] for row in table("Settings of every scene")] + table("Options of tasks")


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.txt").write_text("x y\tx y\n")
    Path("numbers.txt").write_text("x y\t1\n")
    Path("model").mkdir()
    Path("model/config.json").write_text('{"model_type": "bert"}')


def scene(task: str, *tokens: str) -> str:
    """An argument file of a task, with more tokens."""
    file = "rows.txt" if task in HEADERS else "numbers.txt"
    header = HEADERS.get(task, "cls_tokenize:a:tokens,convert2int:b:labels")
    base = f"--task {task or 'seq2label'} --model model --train_dir {file} --eval_dir {file} --train_header a,b"
    Path("old").write_text(f"{base} --train_model_header {header}\n{' '.join(tokens)}\n")
    return "old"


def test_every_setting_of_the_original_is_there_once() -> None:
    assert sorted(row[1].strip("`") for row in ROWS if not row[0]) == sorted(SETTINGS)
    for task, names in TASKS.items():
        assert [row[1].strip("`") for row in ROWS if row[0] == f"`{task}`"] == names.split()
    assert {row[0].strip("`") for row in ROWS} == {"", *TASKS}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}{row[1]}")
def test_what_is_said_of_it_is_so(row: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    task, name, here = row[0].strip("`"), row[1].strip("`"), row[3]
    verdict, _, words = here.partition(": ")
    reason = re.split(r"[;?]|: ", words)[0].replace("`", "")
    if here.startswith("kept"):
        kinds = [(kind, one) for kind in registry.KINDS for one in registry.names(kind)]
        kinds = [(kind, one) for kind, one in kinds if not task or one == task or kind == "processor"]
        declared = [option for owner in KERNEL if not task for option in options_of(owner, "kernel")]
        declared += [o for kind, one in kinds for o in options_of(registry.find(kind, one).plugin, f"{kind} {one}")]
        assert name in {"scene"} | {option.name for option in declared}
    elif here.startswith(("alias of", "means")):
        before = load(scene(task or "seq2seq"), []).values
        after = load(scene(task or "seq2seq", f"--{name} {OTHER[name]}"), []).values
        changed = {setting for setting in after if after[setting].value != before[setting].value}
        assert changed == set(re.findall(r"`(\w+)`", here.partition(";")[0]))
        assert all(str(after[setting].value) == OTHER[name] for setting in changed)
    elif verdict == "refused":
        assert main(["check", scene(task, f"--{name} {ASKED.get(name, '7')}")]) == 2
        said = capsys.readouterr().err
        assert reason in said
        assert re.search(r"there is no such setting|no model is called|is an option of", said)
    else:
        assert verdict == "left out"
        assert main(["check", scene(task, f"--{name} 7")]) == 0, capsys.readouterr().err
        assert f"old:2: {name} is left out: {reason}" in capsys.readouterr().out


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}{row[1]}")
def test_it_is_read_where_it_is_said(row: list[str]) -> None:
    source = (ROOT / row[4].strip("`")).read_text(encoding="utf-8")
    if row[3].startswith(("kept", "left out", "means")):
        name = row[1].strip("`")
        assert re.search(rf"\b{name}\b", source) or re.search(rf"_{name.partition('_')[2]}\b", source)
    elif row[3].startswith("alias of"):
        assert row[1].strip("`") in source


def test_the_defaults_are_those_that_check_tells_of() -> None:
    other = {
        "source_max_length": "tok_max_length",
        "target_max_length": "max_length",
        "eval_strategy": "evaluation_strategy",
    }
    told = {other.get(name, name): value.partition(",")[0] for name, (value, _) in DEFAULTS.items()}
    for row in ROWS:
        name = row[1].strip("`")
        if name in told and row[0] in ("", "`seq2label`", "`guided_seq2seq`"):
            assert row[2].strip("`") == told.pop(name)
    # those of Hugging Face
    assert set(told) == {"bf16", "per_device_train_batch_size", "per_device_eval_batch_size", "save_strategy"}


def test_the_pages_that_it_names_are_there() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert (ROOT / "docs" / link).is_file()
