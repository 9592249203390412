"""A model in a process of its own answers as one in this process does, and outlives what happens to its process."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest
from finished_models import ROWS, folder_of, place_of

from deepgen.kernel.errors import PluginError, RunError, UserError
from deepgen.kernel.portions import joined
from deepgen.kernel.predictor_process import PredictorProcess
from deepgen.kernel.realtime import Predictor
from deepgen.kernel.settings import load

TEXTS = pa.array([text for text, _, _ in ROWS])
SPOILED = '''"""A processor with a word for each way to fail."""

import os
import sys

import pyarrow as pa

from deepgen.kernel.contracts import Field, Processor
from deepgen.kernel.registry import processor


@processor("spoiled")
class Spoiled(Processor):
    def fields(self):
        return [Field("spoiled", "int64")]

    def process(self, columns):
        words = set(columns[0].to_pylist())
        if "raise" in words:
            raise ValueError("a word that was not wanted")
        if "exit" in words:
            sys.exit(3)
        if "die" in words:
            os._exit(4)
        print("what a plugin prints")
        return {"spoiled": pa.array([0] * len(columns[0]), pa.int64())}
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with place_of(tmp_path_factory, "apart") as folder:
        yield folder


def answers(model: Any, texts: pa.Array) -> tuple[Any, list[int]]:
    rejects, passes = model.predictions([texts])
    made = [*passes]
    return joined(made) if made else None, [reject.row for reject in rejects]


@pytest.fixture(scope="module")
def apart(place: Path) -> Iterator[PredictorProcess]:
    file = place / "spoiled.py"
    file.write_text(SPOILED)
    items = "cls_tokenize:text:tokens,spoiled:text:spoiled"
    tokens = [f"--plugin={file}", f"--predict_model_header={items}", "--per_device_eval_batch_size=8"]
    model = PredictorProcess(str(folder_of(place, "score")), tokens)
    yield model
    model.close()


def test_it_answers_as_one_in_this_process(place: Path) -> None:
    words = (str(folder_of(place, "generation-causal")), ["--bad_rows=skip", "--max_new_tokens=40"])
    here, model = Predictor(load(*words)), PredictorProcess(*words)
    try:
        assert (model.problem, model.class_names, model.columns) == (here.problem, here.class_names, here.columns)
        assert (model.used, model.writes_lines) == (here.used, here.writes_lines)
        texts = pa.concat_arrays([TEXTS, pa.array(["good " * 70])])  # too long to be gone on with
        (found, bad), (wanted, bad_here) = answers(model, texts), answers(here, texts)
        assert bad == bad_here == [40]
        assert (found.rows.tolist(), found.texts) == (wanted.rows.tolist(), wanted.texts)
        assert model.lines(found) == here.lines(wanted)
    finally:
        model.close()


def test_what_nobody_waits_for_is_not_taken_for_the_next_answer(apart: PredictorProcess) -> None:
    whole, _ = answers(apart, TEXTS)
    _, passes = apart.predictions([TEXTS])
    first = next(passes)
    assert len(first.rows) == 8
    del passes
    again, _ = answers(apart, TEXTS.slice(3, 20))
    np.testing.assert_allclose(again.scores, whole.scores[3:23], rtol=1e-5, atol=1e-5)


def test_a_failure_is_that_of_its_rows(apart: PredictorProcess) -> None:
    with pytest.raises(PluginError, match="processor 'spoiled' failed on rows:0 to 1: ValueError: a word that was"):
        answers(apart, pa.array(["good", "raise"]))
    with pytest.raises(PluginError, match="processor 'spoiled' failed on rows:0 to 1: SystemExit: 3"):
        answers(apart, pa.array(["good", "exit"]))
    assert len(answers(apart, TEXTS)[0].rows) == 40


def test_it_is_started_again(apart: PredictorProcess, capfd: pytest.CaptureFixture[str]) -> None:
    wanted, _ = answers(apart, TEXTS)
    times = "3 times with the same rows"
    with pytest.raises(RunError, match=rf"^the process of the model was ended {times}, by itself, with exit code 4$"):
        answers(apart, pa.array(["die"]))
    np.testing.assert_array_equal(answers(apart, TEXTS)[0].scores, wanted.scores)
    said = "deepgen: the process of the model was ended by itself, with exit code 4; it is started again\n"
    assert capfd.readouterr().err.count(said) == 3
    apart._process.kill()
    apart._process.wait()
    np.testing.assert_array_equal(answers(apart, TEXTS)[0].scores, wanted.scores)
    said = (
        "deepgen: the process of the model was ended by SIGKILL; the machine may be out of memory; it is started again"
    )
    assert said in capfd.readouterr().err


def test_another_model_in_the_folder_does_not_answer_for_the_one_that_was_loaded(place: Path) -> None:
    folder, aside = place / "served", place / "aside"
    shutil.copytree(folder_of(place, "score"), folder)
    model = PredictorProcess(str(folder), [])
    try:
        wanted, _ = answers(model, TEXTS)
        folder.rename(aside)
        for other in (False, True):
            if other:
                shutil.copytree(folder_of(place, "multi_class"), folder)
            model._process.kill()
            with pytest.raises(RunError, match=r"ended by SIGKILL.*, and the files in .*served are others now; start"):
                answers(model, TEXTS)
        shutil.rmtree(folder)
        aside.rename(folder)
        np.testing.assert_array_equal(answers(model, TEXTS)[0].scores, wanted.scores)
    finally:
        model.close()


def test_what_goes_wrong_while_it_is_loaded_is_the_error(place: Path) -> None:
    folder = place / "broken"
    shutil.copytree(folder_of(place, "score"), folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(RunError, match="SafetensorError: "):
        PredictorProcess(str(folder), [])


def test_mistakes_are_those_of_one_in_this_process(place: Path) -> None:
    words = (str(folder_of(place, "score")), ["--output_type=nothing_such"])
    with pytest.raises(UserError) as here:
        Predictor(load(*words))
    before = psutil.Process().children()
    with pytest.raises(type(here.value)) as there:
        PredictorProcess(*words)
    assert str(there.value) == str(here.value)
    assert psutil.Process().children() == before


def test_it_is_gone_with_who_asks_and_needs_no_torch_there() -> None:
    code = (
        "import sys, time\n"
        "from deepgen.controller.model_server import serving\n"
        "from deepgen.kernel import predictor_process, siblings\n"
        "process = siblings.start(predictor_process.work)\n"
        "assert 'torch' not in sys.modules\n"
        "print(process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    asking = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert asking.stdout is not None
    process = psutil.Process(int(asking.stdout.readline()))
    asking.kill()
    asking.communicate()
    until = time.monotonic() + 30
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until
        time.sleep(0.05)
