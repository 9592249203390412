"""What a finished model reads and writes: the form of its rows and of their lines, without the model itself."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from .columnar import parse_batch, places_of
from .contracts import Outputter, Predictions, Problem
from .errors import SceneError
from .formatting import blocks_of
from .results import ResultSettings, outputter_name
from .rows import SUFFIXES, Block, Chunk, Format, RowSettings, Source
from .scene import SPLITS, Scene

ROWS = "rows"
"""What messages call the rows that a program gives."""


class Finished:
    """A model by what it reads and writes."""

    def __init__(self, scene: Scene, source: Source, problem: Problem, class_names: Sequence[str]) -> None:
        """Args:
        scene: as it predicts.
        source: `source_of` it.
        problem: what the model gives.
        class_names: in index order; empty where there are none.
        """
        self.scene, self.source = scene, source
        self.problem: Problem = problem
        self.class_names = tuple(class_names)
        """In index order; empty where there are none."""
        self.kept = scene.read(ResultSettings).result_header
        """The columns that answers open with."""
        self.used = used(scene, source)
        """The columns that something reads; the others need not be there."""
        self._outputter = scene.outputter(outputter_name(scene.settings.output_type, problem))
        self.gone = ""
        """Why no rows can be answered, where that is so."""
        self._writing = threading.Lock()
        self.writes_lines = type(self._outputter).assemble is Outputter.assemble
        """The file is its rows one behind the other, and so lines of text."""
        self.columns = self._outputter.columns(problem, self.kept)
        """The columns of an answer, by the outputter."""

    def read(self, row: bytes) -> list[dict[str, Any]]:
        """What the outputter wrote of a row, as values by column."""
        return self._outputter.read(row, self.columns)

    def texts_of(self, batch: pa.RecordBatch) -> Block:
        """The columns that are read, of rows of another program, as text; rows without a value are rejects.

        Raises:
            DataError: a column that is not there, or is no text or number.
        """
        places_of(self.used, batch.schema.names, ROWS)
        return parse_batch(self.used, Chunk(0, ROWS, "parquet", 0, 0, batch.num_rows, batch))

    def lines(self, answers: Predictions) -> list[bytes]:
        """What the outputter writes of each row."""
        with self._writing:
            return blocks_of(self._outputter, answers)


def used(scene: Scene, source: Source) -> Source:
    """The source with those columns alone that a processor reads or a result row opens with, in their order."""
    read = {name for item in scene.items("predict") for name in item.inputs}
    read.update(scene.read(ResultSettings).result_header)
    return replace(source, columns=tuple(name for name in source.columns if name in read))


def source_of(scene: Scene) -> Source:
    """Rows that come by themselves, in the form that the files of the scene have: TSV or JSON lines.

    Raises:
        SceneError: a form that cannot be read line by line.
    """
    given = scene.read(RowSettings)
    chosen: Format = "tsv"
    if given.file_format != "auto":
        chosen = given.file_format
        if chosen not in ("tsv", "jsonl"):
            where = scene.where("file_format")
            raise SceneError(f"{where} = '{chosen}' is not read line by line; set file_format to tsv or jsonl")
    else:
        files = [scene.values[f"{split}_dir"].value for split in reversed(SPLITS)]
        file = Path(next((file for file in files if file), ""))
        name = file.stem if file.suffix == ".gz" else file.name
        chosen = "jsonl" if SUFFIXES.get(Path(name).suffix.lower()) == "jsonl" else "tsv"
    header = scene.header_setting("predict", "header")
    return Source("standard input", header, scene.columns("predict"), (), (chosen,))
