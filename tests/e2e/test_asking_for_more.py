"""Served models that generate texts and that make vectors are tasks of a scene: on any ranks as `predict --from`."""

from pathlib import Path

import numpy as np
import pyarrow.feather
import pytest
from model_servers import started

from .conftest import Deepgen, Finished, at_once
from .test_twins import queries as queries

ASKS = """
# The answers of a served model.
task: {task}
plugin: ["unix:{socket}"]
predict_dir: {file}
predict_header: {header}
predict_model_header: {items}
result_header: {keeps}
outputter_num_workers: 1
tracking: false
"""


def ask(place: Path, deepgen: Deepgen, folder: Path, **scene: str) -> None:
    """Predicts a file in three ways: by the folder, and by asking its server on one rank and on two."""
    socket = place / "model.sock"
    (place / "asks.yaml").write_text(ASKS.format(socket=socket, task=folder.name, **scene))
    with started(folder, f"--listen=unix:{socket}"):
        at_once(
            deepgen,
            ["predict", "--from", str(folder), f"--predict_dir={scene['file']}", "--output_dir=alone"],
            ["run", "asks.yaml", "--output_dir=one", "--num_ranks=1"],
            ["run", "asks.yaml", "--output_dir=two", "--num_ranks=2"],
        )


def test_texts(place: Path, deepgen: Deepgen, decoder: Finished) -> None:
    columns = {"header": "letters,phones", "items": "basic:letters:letters", "keeps": "letters"}
    ask(place, deepgen, decoder.folder, file="words_eval.tsv", **columns)
    wanted = (place / "alone" / "predict.txt").read_text()
    assert len(wanted.splitlines()) == 82, "two texts a row"
    for folder in ("one", "two"):
        assert (place / folder / "predict.txt").read_text() == wanted


@pytest.mark.usefixtures("queries")
def test_vectors(place: Path, deepgen: Deepgen) -> None:
    deepgen("run", "twins.yaml", "--max_steps=1", "--do_eval=false", "--do_predict=false", "--embedding_size=6")
    items = "basic:query:query,basic:doc:doc"
    columns = {"header": "query,doc,label", "items": items, "keeps": "query"}
    ask(place, deepgen, place / "runs" / "twins", file="pairs_eval.tsv", **columns)
    alone, one, two = (pyarrow.feather.read_table(place / name / "predict.arrow") for name in ("alone", "one", "two"))
    for asked in (one, two):
        assert asked.schema == alone.schema
        assert asked["row"].to_pylist() == list(range(41))
        assert asked["query"] == alone["query"]
        for side in ("q_embedding", "d_embedding"):
            wanted = np.stack(alone[side].to_numpy())
            assert wanted.shape == (41, 6)
            np.testing.assert_allclose(np.stack(asked[side].to_numpy()), wanted, atol=1e-6)
