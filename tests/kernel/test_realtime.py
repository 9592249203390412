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
from finished_models import AT_PREDICTION, ROWS, SCENES, TAGS, WORDS, folder_of, place_of
from pyarrow import feather

from deepgen.kernel.engine import Engine, EngineSettings
from deepgen.kernel.errors import DataError, SceneError
from deepgen.kernel.events import Silent
from deepgen.kernel.folder import choose
from deepgen.kernel.phases import Phases
from deepgen.kernel.pipe import lines_of
from deepgen.kernel.portions import joined
from deepgen.kernel.realtime import Predictor, load
from deepgen.kernel.run import Stop
from deepgen.kernel.settings import load as load_scene


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with place_of(tmp_path_factory, "realtime") as folder:
        yield folder


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


@pytest.mark.parametrize("name", list(SCENES))
def test_raw_answers_are_those_behind_the_lines(place: Path, name: str) -> None:
    model = load(folder_of(place, name), result_header="text", **AT_PREDICTION.get(name, {}))
    model.batch_size = 3
    rows = pa.array([text for text, _, _ in ROWS])
    rejects, passes = model.predictions([rows])
    assert rejects == []
    parts = list(passes)
    assert all(len(part.rows) <= 3 for part in parts)
    answers = joined(parts)
    assert answers.rows.tolist() == list(range(40))
    assert list(answers.columns["text"]) == rows.to_pylist()
    by_line = model.predict(pa.table({"text": rows}))
    lines = [line for row in model.lines(answers) for line in model.read(row)]
    assert len(lines) == len(by_line)
    for line, wanted in zip(lines, by_line, strict=True):
        assert wanted is not None
        for key, value in wanted.items():
            if key in ("scores", "q_embedding"):
                np.testing.assert_allclose(line[key], value, rtol=1e-3, atol=1e-5)
            elif key != "row":
                assert line[key] == value
    texts = model.texts_of(pa.record_batch({"more": [1, 2], "text": ["a", None]}))
    assert [column.to_pylist() for column in texts.columns] == [["a"]]
    assert [(reject.row, reject.column, reject.reason) for reject in texts.rejects] == [(1, "text", "has no value")]


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
