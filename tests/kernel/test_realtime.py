"""A finished model that answers rows as they come: the answers are those of the result file of a run."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from pyarrow import feather

from deepgen.kernel.engine import Engine, EngineSettings
from deepgen.kernel.errors import DataError, SceneError
from deepgen.kernel.events import Silent
from deepgen.kernel.folder import choose
from deepgen.kernel.model_folder import save_model
from deepgen.kernel.phases import Phases
from deepgen.kernel.pipe import lines_of
from deepgen.kernel.pretrained import Pretrained, PretrainedSettings
from deepgen.kernel.realtime import Predictor, load
from deepgen.kernel.rows import source, texts
from deepgen.kernel.run import Stop
from deepgen.kernel.settings import load as load_scene
from deepgen.kernel.stream import open_split

BERT = {
    "model_type": "bert",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "initializer_range": 1.0,
    "tokenizer": {"model": "word_piece", "vocab_size": 200, "lowercase": True},
}
BART = {
    "model_type": "bart",
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 64,
    "init_std": 1.0,
    "tokenizer": {"model": "word_level"},
}
GPT2 = {
    "model_type": "gpt2",
    "n_embd": 16,
    "n_layer": 1,
    "n_head": 2,
    "n_positions": 64,
    "initializer_range": 1.0,
    "tokenizer": {"model": "word_level"},
}
WORDS = ("a good film", "the worst of all", "it was\\so good", "bad food", "all of it was good and it was bad", "good")
ROWS = [(f"{WORDS[row % 6]} {WORDS[row % 5]}", WORDS[row % 4], row % 2) for row in range(40)]
TAGS = [" ".join(str(place % 2) for place in range(len(text.split()))) for text, _, _ in ROWS]
BEAMS = {"max_new_tokens": 6, "num_beams": 3, "num_return_sequences": 2}
TEXT, PAIR = "cls_tokenize:text:tokens", "s2s_tokenize:text:other:tokens"
LABELS = f"{TEXT},convert2int:label:labels"
SCENES: dict[str, tuple[Any, dict[str, Any]]] = {
    "score": (BERT, {"task": "seq2label", "train_model_header": LABELS, "predict_model_header": TEXT}),
    "multi_class": (
        BERT,
        {
            "task": "seq2softlabel",
            "train_model_header": f"{TEXT},convert2multilabel:label:labels",
            "predict_model_header": TEXT,
            "label_mapping": "0:0,1:1",
            "output_mapping": "0:bad,1:good",
        },
    ),
    "formatter": (
        BERT,
        {
            "task": "seq2tag",
            "train_model_header": "tag_tokenize:text:tags:tokens",
            "predict_model_header": "tag_tokenize:text:tokens",
            "label_mapping": "0:0,1:1",
            "query_column": "text",
        },
    ),
    "embedding": (
        BERT,
        {
            "task": "twinbert",
            "train_model_header": "twinbert_tokenize:text:other:tokens",
            "predict_model_header": "twinbert_tokenize:text:tokens",
        },
    ),
    "generation": (
        BART,
        {"task": "seq2seq", "train_model_header": PAIR, "predict_model_header": "s2s_tokenize:text:tokens", **BEAMS},
    ),
    "generation-causal": (
        GPT2,
        {
            "task": "causal_lm",
            "train_model_header": PAIR.replace("s2s", "causal"),
            "predict_model_header": "causal_tokenize:text:tokens",
            **BEAMS,
            "separator": "<s>",
        },
    ),
}
AT_PREDICTION = {"embedding": {"single_tower": "q"}}
"""Settings that training does not take."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("realtime")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        lines = [f"{text}\t{other}\t{label}\t{tags}\n" for (text, other, label), tags in zip(ROWS, TAGS, strict=True)]
        (folder / "rows.tsv").write_text("".join(lines))
        yield folder


def folder_of(place: Path, name: str) -> Path:
    """The model folder of a scene, with new weights, made once."""
    folder = place / name / "model"
    if not folder.exists():
        folder.parent.mkdir()
        config, settings = SCENES[name]
        common = {"train_dir": "../rows.tsv", "train_header": "text,other,label,tags", "result_header": "text"}
        common |= {"model": "scratch:config.yaml", "output_type": name.partition("-")[0], "bf16": "false"}
        common |= {"per_device_eval_batch_size": "8"}
        (folder.parent / "config.yaml").write_text(yaml.safe_dump(config))
        (folder.parent / "scene.yaml").write_text(yaml.safe_dump({**common, **settings}))
        scene = load_scene(str(folder.parent / "scene.yaml"), [])
        columns = ["text", "other"]
        pretrained = Pretrained(scene.read(PretrainedSettings), lambda: texts(source(scene, "train"), columns))
        labels = open_split(scene, "train", pretrained).labels
        engine = Engine.start(EngineSettings(bf16=False))
        engine.place(scene.model.build(pretrained, labels))
        save_model(scene, engine, pretrained, folder)
    return folder


def result_of(place: Path, name: str, **options: str) -> Path:
    """The result file of a run that predicts."""
    flags = {
        "predict_dir": str(place / "rows.tsv"),
        "output_dir": str(place / name / "-".join(["out", *options.values()])),
        **options,
    }
    scene = load_scene(str(folder_of(place, name)), [f"--{key}={value}" for key, value in flags.items()])
    folder = choose(scene, flags["output_dir"], True)
    Phases(scene, Engine.start(EngineSettings(bf16=False)), folder, Silent(), Stop()).run()
    (result,) = folder.path.glob("predict.*")
    return result


@pytest.mark.parametrize("name", list(SCENES))
def test_answers_are_those_of_the_result_file(place: Path, name: str) -> None:
    options = AT_PREDICTION.get(name, {})
    result = result_of(place, name, **options)
    model = load(folder_of(place, name), **options)
    answers = model.predict([{"text": text} for text, _, _ in ROWS])
    if name == "embedding":
        table = feather.read_table(result)
        assert [answer["text"] for answer in answers if answer] == table["text"].to_pylist()
        for answer, vector in zip(answers, table["q_embedding"].to_pylist(), strict=True):
            assert answer is not None
            np.testing.assert_array_equal(answer["q_embedding"], np.array(vector, np.float32))
        alone = model.predict([{"text": ROWS[0][0]}])[0]
        assert alone is not None
        made, _ = model.answer(*next(iter(model._blocks([{"text": ROWS[0][0]}]))))
        in_a_pipe = json.loads(lines_of(model, made[0]))
        assert list(in_a_pipe) == ["row", "text", "q_embedding"]
        np.testing.assert_array_equal(np.array(in_a_pipe["q_embedding"], np.float32), alone["q_embedding"])
        np.testing.assert_allclose(alone["q_embedding"], table["q_embedding"][0].as_py(), atol=1e-5)
        return
    texts_of_rows = [text for text, _, _ in ROWS]
    made, rejects = model.answer(*next(iter(model._blocks([{"text": text} for text in texts_of_rows]))))
    assert b"".join(made[row] for row in range(40)) == result.read_bytes()
    assert rejects == []
    each = 2 if name.startswith("generation") else 1
    assert len(answers) == 40 * each
    if name in ("score", "multi_class"):  # the others have a column `text` of their own
        assert [answer["text"] for answer in answers if answer] == texts_of_rows
    first, second = (model.predict([(*ROWS[7], TAGS[7])])[0] for _ in range(2))
    assert first is not None
    assert first == second
    for key, value in first.items():
        wanted = (answers[7 * each] or {})[key]
        assert value == (pytest.approx(wanted, rel=1e-4) if key == "scores" else wanted)
    if name.startswith("generation"):
        assert [answer["j"] for answer in answers if answer] == [0, 1] * 40


@pytest.mark.parametrize("name", ["jsonl", "single_score", "score_and_more"])
def test_every_outputter_of_scores(place: Path, name: str) -> None:
    result = result_of(place, "score", output_type=name)
    model = load(folder_of(place, "score"), output_type=name)
    made, _ = model.answer(*next(iter(model._blocks([{"text": text} for text, _, _ in ROWS]))))
    assert b"".join(made.values()) != b""
    assert b"".join(made[row] for row in range(40)) == result.read_bytes()
    first = model.predict([{"text": ROWS[0][0]}])[0]
    assert first is not None
    assert (
        set(first)
        == {
            "jsonl": {"row", "text", "predicted_label", "predicted_scores"},
            "single_score": {"text", "scores"},
            "score_and_more": {"text", "scores", "…"},
        }[name]
    )


def test_rows_in_every_form(place: Path) -> None:
    model = load(folder_of(place, "score"))
    wanted = model.predict([{"text": text} for text, _, _ in ROWS])
    assert model.predict([(*row, tags) for row, tags in zip(ROWS, TAGS, strict=True)]) == wanted
    assert model.predict(pa.table({"text": [text for text, _, _ in ROWS], "more": list(range(40))})) == wanted
    assert model.predict([]) == []
    escaped = model.predict([{"text": "a\tb\\n\nc"}])[0]
    assert escaped is not None
    assert escaped["text"] == "a\tb\\n\nc"
    with pytest.raises(DataError, match=r"rows\[1\]: has no value|rows\[1\]: text .*has no value"):
        model.predict([{"text": "good"}, {"label": 1}])
    with pytest.raises(DataError, match=r"rows\[0\] is 'good'; give a mapping by column"):
        model.predict(["good"])
    with pytest.raises(DataError, match="rows has no column 'text'"):
        model.predict(pa.table({"txt": ["good"]}))
    patient = load(folder_of(place, "score"), bad_rows="skip")
    rows: list[Any] = [{"text": "good"}, {"text": None}, "good", {"text": 3.5}]
    assert [answer and answer["text"] for answer in patient.predict(rows)] == ["good", None, None, "3.5"]


def test_threads_share_a_model(place: Path) -> None:
    model = load(folder_of(place, "generation"), result_header="text")
    wanted = {text: model.predict([{"text": text}]) for text in WORDS}
    wrong: list[str] = []

    def ask(text: str) -> None:
        wrong.extend(text for _ in range(5) if model.predict([{"text": text}]) != wanted[text])

    threads = [threading.Thread(target=ask, args=(text,)) for text in WORDS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_what_cannot_be_loaded(place: Path) -> None:
    with pytest.raises(SceneError, match=r"load .*nowhere: no such folder; give the model folder of a finished run"):
        load(place / "nowhere")
    with pytest.raises(SceneError, match="generation writes masked_text, text, but seq2label answers with single"):
        load(folder_of(place, "score"), output_type="generation")
    with pytest.raises(SceneError, match="file_format = 'csv' is not read line by line"):
        load(folder_of(place, "score"), file_format="csv")
    with pytest.raises(SceneError, match="no column 'nothing'"):
        load(folder_of(place, "score"), result_header="nothing")
    assert isinstance(load(folder_of(place, "score").parent), Predictor), "a run folder does"


def test_neither_deepspeed_nor_mlflow_is_loaded(place: Path) -> None:
    code = (
        "from deepgen.kernel.realtime import load\n"
        f"load({str(folder_of(place, 'score'))!r}).predict([{{'text': 'a'}}])\n"
        "import sys; print([name for name in ('deepspeed', 'mlflow', 'datasets') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
