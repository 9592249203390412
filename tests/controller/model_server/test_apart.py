"""A served model in a process of its own: what goes wrong between two of its answers, and before it is started."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import psutil
import pyarrow as pa
import pytest
from finished_models import folder_of
from grpc_health.v1 import health_pb2, health_pb2_grpc
from model_servers import Client, Served, answers_of, rows, serve, started

from deepgen.controller.model_server.batching import Batcher, Bounds
from deepgen.controller.model_server.model import ServedModel, reference_of
from deepgen.kernel.errors import SceneError
from deepgen.kernel.predictor_process import PredictorProcess
from deepgen.v1.plugin_service_pb2 import ProbeRequest

FORGETFUL = '''"""A task that forgets the rows of a pass where one is long."""

from deepgen.kernel.registry import model
from deepgen.plugins.models.seq2label import Seq2Label


@model("forgetful")
class Forgetful(Seq2Label):
    def predict(self, module, batch):
        scores = super().predict(module, batch)["scores"]
        return {"scores": scores[:0] if batch["input_ids"].shape[1] > 40 else scores}
'''

AWAY = '''"""A processor and an outputter, for a program."""

import pyarrow as pa

from deepgen.kernel.contracts import Field, Outputter, Processor
from deepgen.kernel.registry import outputter, processor


@processor("away")
class Away(Processor):
    """A number."""

    def fields(self):
        return [Field("away", "int64")]

    def process(self, columns):
        return {"away": pa.array([0] * len(columns[0]), pa.int64())}


@outputter("line_away")
class LineAway(Outputter):
    """A line."""

    fits = frozenset({"single_label_classification"})

    def columns(self, problem, result_columns):
        return ("said",)

    def format(self, predictions):
        return ["away\\n" for _ in predictions.rows]
'''


def test_an_error_between_two_passes_does_not_hold_up_the_next_ones(place: Path) -> None:
    file = place / "forgetful.py"
    file.write_text(FORGETFUL)
    tokens = [f"--plugin={file}", "--task=forgetful", "--per_device_eval_batch_size=1"]
    predictor = PredictorProcess(*reference_of(str(folder_of(place, "score")), tokens))
    try:
        batcher = Batcher(ServedModel(predictor, "letters"), Bounds(window=5, max_batch=4), lambda rows, seconds: None)
        texts = ["good " * 50, "good", "bad food", "a good film"]
        asked = [batcher.ask([pa.array([text])], 1) for text in texts]
        with pytest.raises(IndexError):
            asked[0].result(60)
        for future in asked[1:]:
            (answer,) = future.result(60)
            assert answer.predictions.rows.tolist() == [0]
        batcher.close()
    finally:
        predictor.close()


def test_health_says_that_a_model_whose_files_are_others_answers_no_more(place: Path) -> None:
    weights = folder_of(place, "score") / "model.safetensors"
    stat = weights.stat()
    predictor = PredictorProcess(*reference_of(str(weights.parent), []))
    answering = health_pb2.HealthCheckResponse

    async def check(served: Served) -> None:
        async with served.client() as client, grpc.aio.insecure_channel(served.address) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            watch = health.Watch(health_pb2.HealthCheckRequest(service="deepgen.v1.ModelService"))
            for well in (True, False, True):
                os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns + (0 if well else 1)))
                predictor._process.kill()
                answer = await client.model.Predict(rows(["good"]))
                assert answer.HasField("failure") is not well
                assert (await watch.read()).status == (answering.SERVING if well else answering.NOT_SERVING)
                probe = await client.plugin.Probe(ProbeRequest())
                assert (probe.ready, probe.why) == (well, answer.failure.message)
                assert well or f"files in {weights.parent} are others now" in probe.why

    try:
        serve(ServedModel(predictor, "letters"), check)
    finally:
        predictor.close()


def test_a_name_is_looked_at_before_a_model_is_loaded(place: Path) -> None:
    with pytest.raises(SceneError, match="'my:model' is no name that a scene can use; give --name"):
        reference_of(str(folder_of(place, "score")), [], "my:model")


@pytest.mark.parametrize(("outputter", "programs", "line"), [("score", 1, None), ("line_away", 2, b"away\n")])
def test_a_program_is_kept_by_the_process_that_asks_it(
    place: Path, outputter: str, programs: int, line: bytes | None
) -> None:
    file = place / "away.py"
    file.write_text(AWAY)
    program = shlex.join([sys.executable, "-m", "deepgen.controller.cli", "plugin", "serve", str(file)])
    words = [f"--plugin=exec:{program}", f"--output_type={outputter}"]
    words += ["--predict_model_header=cls_tokenize:text:tokens,away:text:away", "--listen=grpc://127.0.0.1:0"]
    with started(folder_of(place, "score"), *words) as (process, said):
        below = psutil.Process(process.pid).children(recursive=True)
        assert len([one for one in below if one.cmdline()[1:3] == ["-m", "deepgen.controller.cli"]]) == programs
        with grpc.insecure_channel(said.split("grpc://")[1].partition(";")[0]) as channel:
            lines = answers_of(Client(channel).model.Predict(rows(["good"], lines=True)))["line"]
        assert line is None or lines == [line]
