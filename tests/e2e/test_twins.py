"""Twin encoders end to end on real ranks: vectors and scores in row order from a stream, LoRA, and the model folder."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.feather
import pytest

from .conftest import DEEPGEN, SAMPLE, Deepgen, at_once, call, lay_out

TWINS = """
# Tiny twins.
task: twinbert
model: scratch:encoder.yaml
train_dir: pairs.tsv
eval_dir: pairs_eval.tsv
predict_dir: pairs_eval.tsv
train_header: query,doc,label
train_model_header: twinbert_tokenize:query:doc:tokens
result_header: query
output_type: embedding
eval_metrics: recall_at_k,mrr
source_max_length: 16
target_max_length: 32
per_device_train_batch_size: 8
per_device_eval_batch_size: 4
learning_rate: 1e-3
max_steps: 4
bf16: false
tracking: false
"""
LABELLED = {
    "train_model_header": "twinbert_tokenize:query:doc:tokens,convert2int:label:labels",
    "predict_model_header": "twinbert_tokenize:query:doc:tokens",
    "crossing": "residual",
    "post_crossing_layers": "1",
    "post_crossing_size": "8",
    "output_type": "score",
    "eval_metrics": "auc,acc",
}
TOWERS = {"shared_tower": "false", "embedding_size": "6"}


def flags(**settings: str) -> list[str]:
    return [word for name, value in settings.items() for word in (f"--{name}", value)]


def write_pairs(place: Path) -> list[str]:
    found: list[str] = []
    for name, source, size in (("pairs.tsv", "train.tsv", 64), ("pairs_eval.tsv", "eval.tsv", 41)):
        lines = (SAMPLE / "packages" / source).read_text(encoding="utf-8").splitlines()[: size + 1]
        rows = [line.split("\t") for line in lines]
        pairs = [(rows[at][0], rows[at + at % 2][1], str(1 - at % 2)) for at in range(size)]
        (place / name).write_text("".join("\t".join(pair) + "\n" for pair in pairs), encoding="utf-8")
        found = [pair[0] for pair in pairs]
    (place / "twins.yaml").write_text(TWINS, encoding="utf-8")
    return found


@pytest.fixture
def queries(place: Path) -> list[str]:
    """The scene and its pairs; every other one does not belong together. Gives the queries of the evaluation."""
    return write_pairs(place)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model folder of two towers that the tests of LoRA begin with."""
    place = lay_out(tmp_path_factory.mktemp("twins"))
    write_pairs(place)
    settings = flags(**LABELLED, **TOWERS, name="base", max_steps="1", do_eval="false", do_predict="false")
    call([*DEEPGEN, "run", "twins.yaml", *settings], place, XDG_CACHE_HOME=str(place / "cache"))
    return str(place / "runs" / "base" / "model")


def test_vectors_of_two_ranks_are_in_row_order(place: Path, deepgen: Deepgen, queries: list[str]) -> None:
    deepgen("run", "twins.yaml", "--num_ranks", "2", *flags(datareader_streaming="true", zero_stage="2"))
    folder = place / "runs" / "twins"
    table = pyarrow.feather.read_table(folder / "predict.arrow")
    assert table["row"].to_pylist() == list(range(len(queries)))
    assert table["query"].to_pylist() == queries
    sides = [np.array(table[f"{side}_embedding"].to_pylist(), np.float32) for side in "qd"]
    assert sides[0].shape == (41, 32)
    np.testing.assert_allclose(np.linalg.norm(sides[0], axis=1), 1, rtol=1e-5)
    # one rank, no stream, other batches, the other format, and one side alone
    other: dict[str, Any] = {"predict_dir": "pairs_eval.tsv", "embedding_format": "npy", "result_header": ""}
    alone = {"predict_model_header": "twinbert_tokenize:doc:tokens", "single_tower": "d"}
    settings = {**other, **alone, "per_device_eval_batch_size": "7", "datareader_streaming": "true"}
    at_once(
        deepgen,
        ["predict", "--from", str(folder), *flags(**other, result_file=str(place / "both.npy"))],
        ["predict", "--from", str(folder), "--num_ranks", "3", *flags(**settings, result_file=f"{place}/d.npy")],
    )
    np.testing.assert_allclose(np.load(place / "both.npy"), np.stack(sides, axis=1), atol=1e-5)
    np.testing.assert_allclose(np.load(place / "d.npy"), sides[1], atol=1e-5)


def test_scores_of_pairs_are_in_row_order(place: Path, deepgen: Deepgen, queries: list[str]) -> None:
    deepgen("run", "twins.yaml", "--num_ranks", "2", *flags(**LABELLED, datareader_streaming="true"))
    scores(place, deepgen, queries)


@pytest.mark.parametrize(("stage", "kept"), [("2", "adapter"), ("3", "merged")])
def test_lora_beside_both_towers(
    place: Path, deepgen: Deepgen, queries: list[str], base: str, stage: str, kept: str
) -> None:
    pytest.importorskip("peft")
    settings = {"use_peft": "true", "lora_save": kept, "zero_stage": stage, "load_crossing": "false"}
    done = deepgen(
        *("run", "twins.yaml", "--num_ranks", "2", "--model", base, "--output_dir", "runs/twins"),
        *flags(**LABELLED, **TOWERS, **settings, learning_rate="1e-2"),
    )
    assert "weights learn" in done.stderr
    model = place / "runs" / "twins" / "model"
    assert (model / "adapter_config.json").exists() == (kept == "adapter")
    assert (model / "twinbert.safetensors").exists() == (kept == "merged")
    scores(place, deepgen, queries)


def scores(place: Path, deepgen: Deepgen, queries: list[str]) -> None:
    """The scores of the run are in row order, and the model folder alone gives the same."""
    folder, again = place / "runs" / "twins", place / "again.txt"
    deepgen("predict", "--from", str(folder), *flags(predict_dir="pairs_eval.tsv", result_file=str(again)))
    rows = [[line.split("\t") for line in text.read_text().splitlines()] for text in (folder / "predict.txt", again)]
    assert [row[0] for row in rows[0]] == queries
    first, second = (np.array([float(row[1]) for row in part]) for part in rows)
    np.testing.assert_allclose(first, second, atol=1e-4)
    assert 0 < first.min() < first.max() < 1
    assert len(np.unique(first)) > 20, "rows differ, so that their order can be told"
