"""Floating-point fields may round otherwise in other company, as a model's answers do; more than that is found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deepgen.controller.cli import main

PLUGIN = '''
"""A field whose values depend a little on the other rows."""
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from deepgen.kernel.contracts import Field, Processor
from deepgen.kernel.registry import processor


@processor("NAME")
@dataclass
class Scored(Processor):
    """Two numbers and a text for each text."""

    def fields(self):
        return (Field(self.output, "float32", "fixed"), Field("one", "DTYPE"))

    def process(self, columns):
        count = len(columns[0])
        lengths = np.array([len(text) for text in columns[0].to_pylist()], np.float64)
        numbers = SIZE * np.stack([lengths, 1.0 / (1.0 + lengths)], 1)
        numbers *= 1 + OFF / count
        pairs = pa.FixedSizeListArray.from_arrays(pa.array(numbers.astype(np.float32).reshape(-1)), 2)
        return {self.output: pairs, "one": ONE}
'''
SCALAR = "pa.array((lengths * (1 + OFF / count)).astype(np.float32))"


@pytest.mark.parametrize("size", [1.0, 1e-4])
@pytest.mark.parametrize(
    ("off", "dtype", "one", "found"),
    [
        ("1e-5", "float32", SCALAR, False),
        ("1e-3", "float32", SCALAR, True),
        ("0", "int64", "pa.array(lengths.astype(np.int64) * 10**9 + count)", True),
        ("0", "string", "pa.array([f'{count / 1e9:.15f}'] * count)", True),
    ],
)
def test_a_field_that_depends_on_the_other_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], size: float, off: str, dtype: str, one: str, found: bool
) -> None:
    name = f"scored_{size:g}_{off}_{dtype}".replace("-", "_")
    text = PLUGIN.replace("ONE", one).replace("OFF", off).replace("DTYPE", dtype).replace("SIZE", f"{size}")
    (tmp_path / "own.py").write_text(text.replace("NAME", name))
    only = "processor.split_invariance"
    code = main(["plugin", "check", str(tmp_path / "own.py"), "--over", "process", "--only", only, "-o", "json"])
    (told,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (told["result"], code) == (("failed", 1) if found else ("passed", 0))
    if found:
        assert told["right"] == "the same values; floating-point numbers within 0.0001 of the largest of their field"
