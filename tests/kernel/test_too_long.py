"""A row that a task cannot take, as it is too long to be gone on with, is a bad row: the others are answered."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from finished_models import ROWS, folder_of, place_of

from deepgen.kernel.errors import DataError
from deepgen.kernel.portions import joined
from deepgen.kernel.realtime import load

LONG = "good " * 70
TEXTS = [text for text, _, _ in ROWS if "\\" not in text][:11]
WORDS = "max_new_tokens = 40 and a source of 33 tokens are more than the model takes: 64 tokens together"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with place_of(tmp_path_factory, "too_long") as folder:
        yield folder


def test_in_memory(place: Path) -> None:
    model = load(folder_of(place, "generation-causal"), bad_rows="skip", max_new_tokens=40)
    given = [*TEXTS[:3], LONG, *TEXTS[3:], LONG]
    answers = model.predict([{"text": text} for text in given])
    of_the_others = [answer for answer in answers if answer is not None]
    assert of_the_others == model.predict([{"text": text} for text in TEXTS])
    assert [place for place, answer in enumerate(answers) if answer is None] == [6, len(answers) - 1]

    rejects, passes = model.predictions([pa.array(given)])
    assert sorted(joined([*passes]).rows.tolist()) == [row for row in range(13) if row not in (3, 12)]
    assert sorted(reject.row for reject in rejects) == [3, 12]
    assert all(WORDS in reject.problem for reject in rejects)

    strict = load(folder_of(place, "generation-causal"), max_new_tokens=40)
    with pytest.raises(DataError, match=r"rows\[1\]: cannot be answered: max_new_tokens = 40 and a source"):
        strict.predict([{"text": "good"}, {"text": LONG}])


@pytest.mark.parametrize("bad_rows", ["skip", "fail"])
def test_in_a_pipe(place: Path, bad_rows: str) -> None:
    folder = folder_of(place, "generation-causal")
    command = [sys.executable, "-m", "deepgen.controller.cli", "predict", "--from", str(folder)]
    rows = [*TEXTS[:2], LONG, *TEXTS[2:4]]
    done = subprocess.run(
        [*command, "--predict_header", "text", "--bad_rows", bad_rows, "--max_new_tokens", "40"],
        input="".join(f"{row}\n" for row in rows),
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    lines = done.stdout.splitlines()
    assert [line.split("\t")[0] for line in lines[:4]] == [rows[0]] * 2 + [rows[1]] * 2
    (told,) = [line for line in done.stderr.splitlines() if "standard input" in line]
    assert told.startswith(f"deepgen: standard input:3: cannot be answered: {WORDS}")
    if bad_rows == "skip":
        assert done.returncode == 0
        assert [line.split("\t")[0] for line in lines[4:]] == ["", *[rows[3]] * 2, *[rows[4]] * 2]
    else:
        assert (done.returncode, len(lines)) == (2, 4)
