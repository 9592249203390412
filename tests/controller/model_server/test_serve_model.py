"""`deepgen serve-model` as a person has it: what it says, TLS and a token, metrics, an end in good order, refusals."""

from __future__ import annotations

import shlex
import signal
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from certificates import Authority
from finished_models import ROWS, folder_of
from model_servers import PATIENCE, Client, answers_of, rows, started
from serving import refused

from deepgen.controller.cli import main
from deepgen.kernel.errors import PluginError
from deepgen.kernel.stand_ins.loading import load

FILE = __file__
TEXTS = [text for text, _, _ in ROWS]


@pytest.fixture(scope="module")
def folder(place: Path) -> Path:
    return folder_of(place, "score").parent


def test_a_server_from_start_to_end(folder: Path) -> None:
    words = ("--listen", "grpc://127.0.0.1:0", "--metrics-port", "0", "--max-batch", "8", "--name", "letters")
    with started(folder, *words) as (process, line):
        assert line.startswith("letters is served at grpc://127.0.0.1:")
        assert line.endswith("; Ctrl-C ends\n")
        address = line.split("grpc://")[1].partition(";")[0]
        assert process.stderr is not None
        told = [process.stderr.readline() for _ in range(5)]
        assert told[:3] == [
            "  columns  text\n",
            "  answers  single label classification: LABEL_0, LABEL_1\n",
            "  batches  at most 8 rows, after at most 3 ms\n",
        ]
        assert told[4] == "anybody on this machine may call it; --token-file keeps others out\n"
        page = told[3].split()[1]
        with grpc.insecure_channel(address) as channel, ThreadPoolExecutor(8) as pool:
            client = Client(channel)
            lines = answers_of(client.model.Predict(rows(TEXTS, lines=True)))["line"]
            assert len(lines) == 40
            with refused("INVALID_ARGUMENT"):
                client.model.Predict(rows([]))
            answers_of(client.model.Predict(rows(["a", "b"])))
            assert client.model.Predict(rows(["a", None])).WhichOneof("result") == "bad_rows"
            with urllib.request.urlopen(page) as found:
                assert found.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
            wanted = {
                'deepgen_model_info{model="letters"} 1',
                "deepgen_rows_total 42",
                "deepgen_rows_waiting 0",
                'deepgen_requests_total{method="Predict",outcome="OK"} 2',
                'deepgen_requests_total{method="Predict",outcome="INVALID_ARGUMENT"} 1',
                'deepgen_requests_total{method="Predict",outcome="bad_rows"} 1',
                'deepgen_batch_rows_bucket{le="8"} 7',
                'deepgen_batch_rows_bucket{le="4"} 2',
                "deepgen_batch_rows_sum 43",
                "deepgen_batch_seconds_count 7",
                "deepgen_request_seconds_count 3",
            }
            metrics: list[str] = []
            until = time.monotonic() + 60
            while not wanted <= set(metrics):  # answers leave before their batch is counted
                assert time.monotonic() < until, wanted - set(metrics)
                with urllib.request.urlopen(page) as found:
                    metrics = found.read().decode().splitlines()
            assert all(part.startswith(("# HELP ", "# TYPE ", "deepgen_")) for part in metrics)
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(page.replace("/metrics", "/other"))
            (worker,) = psutil.Process(process.pid).children()
            worker.kill()
            assert answers_of(client.model.Predict(rows(TEXTS, lines=True)))["line"] == lines
            again = process.stderr.readline()
            assert again.startswith("deepgen: the process of the model was ended by SIGKILL; ")
            assert again.endswith("; it is started again\n")
            asked = [pool.submit(client.model.Predict, rows(TEXTS * 40)) for _ in range(4)]
            waiting = 0
            while waiting <= 3 * 1600:  # until the last of them is there
                with urllib.request.urlopen(page) as found:
                    text = found.read().decode()
                waiting = int(text.partition("\ndeepgen_rows_waiting ")[2].partition("\n")[0])
                assert not all(one.done() for one in asked)
            process.send_signal(signal.SIGTERM)
            assert [len(answers_of(one.result(PATIENCE))["scores"]) for one in asked] == [1600] * 4
        assert process.wait(PATIENCE) == 0
        assert not worker.is_running()
        rest = process.stderr.read()
        assert rest.startswith("deepgen: stopping; ")
        assert rest.endswith(" rows that wait are answered first\n")


def test_tls_wants_a_token(folder: Path, tmp_path: Path) -> None:
    authority = Authority.make(tmp_path / "ca")
    certificate, key = authority.issue("server")
    token = tmp_path / "token"
    token.write_text("let-me-in\n")
    token.chmod(0o600)
    files = ("--tls-cert", str(certificate), "--tls-key", str(key), "--token-file", str(token))
    with started(folder, "--listen", "grpcs://0.0.0.0:0", *files) as (process, line):
        port = line.partition(";")[0].rpartition(":")[2]
        trusted = grpc.ssl_channel_credentials((tmp_path / "ca" / "authority.pem").read_bytes())
        with grpc.secure_channel(f"127.0.0.1:{port}", trusted) as channel:
            predict: Any = Client(channel).model.Predict
            assert answers_of(predict(rows(["a"]), metadata=[("authorization", "Bearer let-me-in")]))
            for metadata in ([], [("authorization", "Bearer let-me-out")]):
                with refused("UNAUTHENTICATED"):
                    predict(rows(["a"]), metadata=metadata)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "deepgen serve-model takes the folder of a finished run"),
        (["nowhere"], "deepgen serve-model nowhere: no such folder; give the model folder of a finished run"),
        (["FOLDER", "--listen", "127.0.0.1:1"], "--listen 127.0.0.1:1: give unix:/PATH, grpcs://HOST:PORT or grpc"),
        (["FOLDER", "--listen", "grpc://0.0.0.0:1"], "0.0.0.0:1 can be reached from other machines, so it needs TLS"),
        (["FOLDER", "--listen", "grpcs://0.0.0.0:1"], "belong to --listen grpcs://HOST:PORT, which needs both"),
        (
            ["FOLDER", "--tls-cert", "FOLDER/config.yaml"],
            "--tls-cert and --tls-key belong to --listen grpcs://HOST:PORT",
        ),
        (["FOLDER", "--listen", "grpcs://h:1", "--tls-cert", FILE, "--tls-key", FILE], "give --token-file"),
        (["FOLDER", "--batch_window", "soon"], "--batch-window soon is no number of milliseconds from 0 to 60000"),
        (
            ["FOLDER", "--metrics-port", "70000", "--listen", "unix:FOLDER/s"],
            "--metrics-port 70000 cannot be listened on",
        ),
        (["FOLDER", "--name", "my:model"], "'my:model' is no name that a scene can use; give --name, one word without"),
        (["FOLDER", "--max-batch", "0"], "--max-batch 0 is not a whole number from 1 on"),
        (["FOLDER", "--bf17", "true"], "--bf17: there is no such setting; did you mean 'bf16'?"),
        (["FOLDER", "--listen", "unix:/nowhere/socket"], "unix:/nowhere/socket cannot be listened on"),
        (["FOLDER", "--listen", "unix:FOLDER/config.yaml"], "is a file that is no socket; give another path"),
        (["FOLDER", "--token-file", "FOLDER/config.yaml", "--listen", "unix:FOLDER/s"], "others may read or change it"),
    ],
)
def test_mistakes_are_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["serve-model", *(word.replace("FOLDER", str(folder)) for word in words)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert message in line


def test_a_scene_that_would_start_it_as_a_plugin_is_told_what_to_write(capsys: pytest.CaptureFixture[str]) -> None:
    serve = shlex.join([sys.executable, "-m", "deepgen.controller.cli", "serve-model", "runs/sentiment"])
    with pytest.raises(PluginError) as error:
        load(f"exec:{serve}")
    assert str(error.value) == (
        f"--plugin exec:{serve}: deepgen serve-model is a server that many runs share, and no run starts it: start it "
        "by hand with --listen unix:/PATH, and write plugin: [unix:/PATH]"
    )
