"""A run that asks a served model: for its answers, and as the teacher of a smaller one."""

import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from model_servers import started

from deepgen.kernel.realtime import load

from .conftest import Deepgen, Finished, at_once

ANSWERS = """
# The answers of a served model.
task: sentiment
plugin: ["unix:{socket}"]
predict_dir: eval.tsv
predict_header: text,label
predict_model_header: basic:text:text
result_header: text
tracking: false
"""
STUDENT = """
# Learns from {from}.
task: seq2softlabel
model: scratch:encoder.yaml
{more}
train_model_header: cls_tokenize:text:tokens,{labels}
eval_dir: eval.tsv
eval_header: text,label
eval_model_header: cls_tokenize:text:tokens,convert2multilabel:label:labels
predict_dir: eval.tsv
predict_model_header: cls_tokenize:text:tokens
result_header: text
source_max_length: 32
per_device_train_batch_size: 8
num_train_epochs: 1
learning_rate: 1e-3
bf16: false
tracking: false
"""


class Server:
    """The classifier, which lets so few rows wait that a chunk of the input has to be asked for in portions."""

    def __init__(self, socket: Path, metrics: str) -> None:
        self.socket, self._metrics = socket, metrics

    def requests(self) -> int:
        """Answered so far."""
        with urllib.request.urlopen(self._metrics) as page:
            counts = re.findall(r"^deepgen_requests_total\{.*\} (\d+)", page.read().decode(), re.MULTILINE)
        return sum(map(int, counts))


@pytest.fixture(scope="module")
def server(classifier: Finished, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    socket = tmp_path_factory.mktemp("served") / "model.sock"
    with started(classifier.folder, f"--listen=unix:{socket}", "--max-waiting=40", "--metrics-port=0") as (process, _):
        assert process.stderr is not None
        metrics = next(line.split()[1] for line in process.stderr if line.split()[:1] == ["metrics"])
        yield Server(socket, metrics)


def result(file: Path) -> tuple[list[str], np.ndarray]:
    """The texts of a result file, and the probabilities."""
    rows = [line.rpartition("\t") for line in file.read_text().splitlines()]
    return [text for text, _, _ in rows], np.array([row[2].split(",") for row in rows], np.float64)


def test_a_served_model_is_the_task(place: Path, deepgen: Deepgen, classifier: Finished, server: Server) -> None:
    (place / "answers.yaml").write_text(ANSWERS.format(socket=server.socket))
    two = ["--num_ranks=2", "--outputter_num_workers=2", "--output_dir=two"]
    at_once(deepgen, ["run", "answers.yaml"], ["run", "answers.yaml", *two])
    texts, wanted = result(classifier.folder / "predict.txt")
    for folder in ("runs/answers", "two"):
        found = result(place / folder / "predict.txt")
        assert found[0] == texts
        np.testing.assert_allclose(found[1], wanted, atol=1e-6)
    said = deepgen("check", "answers.yaml").stdout
    assert "\ntask: sentiment answers with single_label_classification\nresult: score, columns text, scores\n" in said


def test_what_a_served_model_cannot_do(place: Path, deepgen: Deepgen, server: Server) -> None:
    (place / "answers.yaml").write_text(ANSWERS.format(socket=server.socket))
    trains = ["--train_dir=train.tsv", "--train_header=text,label", "--train_model_header=basic:text:text"]
    task = f"answers.yaml:3: task: 'sentiment' answers at unix:{server.socket} and can only predict; set do_train"
    header = "--predict_model_header=cls_tokenize:text:tokens,basic:text:text"
    tokens = "model is not set, and 'cls_tokenize:text:tokens' needs its tokenizer; name the model"
    lacks = "sentiment needs 'text', and no item gives it; add an item that ends in 'text', such as basic:text:text"
    for words, told in ((trains, task), ([header], tokens), (["--predict_model_header=label"], lacks)):
        said = deepgen("check", "answers.yaml", *words, exits=2).stderr
        assert told in said
        assert len(said.splitlines()) == 1


def test_a_served_model_teaches_as_its_result_file_does(
    place: Path, deepgen: Deepgen, classifier: Finished, server: Server
) -> None:
    asks = {"from": "a server", "labels": "sentiment:text:labels"}
    plugin = f'plugin: ["unix:{server.socket}"]\ntrain_dir: train.tsv\ntrain_header: text,label'
    reads = {"from": "a file", "labels": "convert2floatlist:probabilities:labels"}
    file = "train_dir: said.tsv\ntrain_header: text,probabilities\nsum_to_one: true"
    (place / "asks.yaml").write_text(STUDENT.format(more=plugin, **asks))
    (place / "reads.yaml").write_text(STUDENT.format(more=file, **reads))
    deepgen(
        "predict", "--from", classifier.model, "--predict_dir=train.tsv", "--result_file=said.tsv", "--output_dir=."
    )
    before = server.requests()
    at_once(deepgen, *([["run", f"{name}.yaml", "--num_ranks=2"] for name in ("asks", "reads")]))
    asked = server.requests()
    assert asked > before
    found, wanted = (result(place / "runs" / name / "predict.txt") for name in ("asks", "reads"))
    assert found[0] == wanted[0]
    np.testing.assert_allclose(found[1], wanted[1], atol=1e-6)
    deepgen("run", "asks.yaml", "--num_ranks=1", "--output_dir=again", "--do_eval=false", "--do_predict=false")
    assert server.requests() == asked, "what it said is kept"


def test_a_student_does_not_need_its_teacher_any_more(place: Path, deepgen: Deepgen, classifier: Finished) -> None:
    socket = place / "teacher.sock"
    plugin = f'plugin: ["unix:{socket}"]\ntrain_dir: train.tsv\ntrain_header: text,label\nmax_steps: 2'
    student = STUDENT.format(more=plugin, **{"from": "a server", "labels": "sentiment:text:labels"})
    (place / "asks.yaml").write_text(student + "outputter_num_workers: 1\n")
    with started(classifier.folder, f"--listen=unix:{socket}"):
        deepgen("run", "asks.yaml")
    socket.unlink(missing_ok=True)
    lines = (place / "runs" / "asks" / "predict.txt").read_text()
    wanted = result(place / "runs" / "asks" / "predict.txt")
    header = "--train_model_header=cls_tokenize:text:tokens,convert2multilabel:label:labels"
    at_once(
        deepgen,
        ["predict", "--from", "runs/asks", "--predict_dir=eval.tsv", "--output_dir=alone"],
        ["check", "runs/asks/model", "--do_train=true", header],
    )
    assert (place / "alone" / "predict.txt").read_text() == lines
    rows = load(place / "runs" / "asks", predict_header="text").predict([{"text": text} for text in wanted[0]])
    np.testing.assert_allclose([row["scores"] for row in rows if row], wanted[1], atol=1e-6)
    with started(place / "runs" / "asks", f"--listen=unix:{socket}") as (_, said):
        assert said.startswith("asks is served at")
    socket.unlink(missing_ok=True)
    told = deepgen("run", "runs/asks/model", "--do_train=true", "--output_dir=more", exits=2).stderr
    away = f"plugin unix:{socket}: cannot be reached: there is no such socket; is the server running"
    assert re.fullmatch(rf"deepgen: runs/asks/model/scene.yaml:\d+: {away}\?\n", told)


def test_a_server_that_is_away_is_said_before_anything_starts(place: Path, deepgen: Deepgen) -> None:
    (place / "answers.yaml").write_text(ANSWERS.format(socket=place / "away.sock"))
    for command in ("check", "run"):
        said = deepgen(command, "answers.yaml", exits=2).stderr
        told = f"unix:{place}/away.sock: cannot be reached: there is no such socket; is the server running?\n"
        assert said == f"deepgen: answers.yaml:4: plugin {told}"
