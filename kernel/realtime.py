"""A finished model in memory that answers rows as they come, by the processors and outputter of a run.

`load("runs/sentiment", predict_header="text", result_header="text").predict([{"text": "Loved this place."}])` gives
`[{"text": "Loved this place.", "scores": [0.02, 0.98]}]`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from . import cpu_bf16, settings
from .batches import BatchSettings, collate, cuts
from .caches import CacheSettings
from .check import examine
from .columnar import parse_batch, places_of
from .contracts import Outputter, Predictions, Problem
from .deepspeed_config import compute_dtype, read_config
from .engine import EngineSettings
from .errors import DataError, SceneError
from .evaluation import predictions_of
from .formatting import blocks_of
from .parsing import plain
from .pretrained import Pretrained, PretrainedSettings
from .processing import LENGTH, ROW, Made, Processing
from .ranks import Ranks
from .readers import json_text
from .results import ResultSettings, outputter_name
from .rows import SUFFIXES, Block, Chunk, Format, Reject, RowSettings, Source
from .scene import SPLITS, Scene
from .table import Table

ROWS = "rows"
"""What messages call the rows that a program gives."""

CPU_OVERHEAD = 48
"""Tokens that a forward pass on a CPU costs by itself, about; on a GPU, and in generation, it is not worth counting."""


def load(folder: str | Path, **options: Any) -> Predictor:
    """The model of a run folder, or of the model folder in it, in memory and ready to answer.

    Args:
        folder: nothing else of the run is needed.
        options: settings over those of the folder, by their names in a scene, such as `num_beams=4`.

    Raises:
        SceneError, PluginError: no such folder, or settings that are wrong or do not go together.
    """
    found = settings.finished_model(str(folder), "load")
    return Predictor(settings.load(str(found), [f"--{name}={plain(value)}" for name, value in options.items()]))


class Predictor:
    """A model that answers rows. Threads may share it: they take turns."""

    def __init__(self, scene: Scene) -> None:
        """Loads the model of a scene, to a GPU where there is one.

        Raises:
            SceneError, PluginError: the scene cannot predict.
        """
        self.source = _source(scene)
        self.scene = scene
        examine(scene, self.source)
        import torch

        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        engine = scene.read(EngineSettings)
        dtype = compute_dtype(engine, read_config(engine.deepspeed), device)
        pretrained = Pretrained(
            scene.read(PretrainedSettings),
            attention=cpu_bf16.attention(device, dtype),
            cache=scene.read(CacheSettings),
            task=scene.settings.task,
        )
        self._place = Ranks(0, 1, 0, device)
        self._padding = cpu_bf16.padding(pretrained, device, dtype)
        self._module = scene.model.build(pretrained, None).to(device=device, dtype=dtype).eval()
        kept = scene.read(ResultSettings).result_header
        self.used = replace(self.source, columns=_used(scene, self.source, kept))
        """The columns that something reads; the others need not be there."""
        self._processing = Processing(scene, "predict", pretrained, kept, self.used)
        self._kept = kept
        self.problem: Problem = scene.model.problem(self._processing.fields.get("labels"))
        self._outputter = scene.outputter(outputter_name(scene.settings.output_type, self.problem))
        self.writes_lines = type(self._outputter).assemble is Outputter.assemble
        """The file is its rows one behind the other, and so lines of text."""
        self.columns = self._outputter.columns(self.problem, kept)
        """The columns of an answer, by the outputter."""
        self.class_names = scene.model.class_names(self._module)
        """In index order; empty where there are none."""
        batches = scene.read(BatchSettings)
        self.batch_size, self._by_length = batches.per_device_eval_batch_size, batches.group_by_length
        self.bad_rows = scene.read(RowSettings).bad_rows
        self._overhead = CPU_OVERHEAD if device.type == "cpu" and self.problem != "text" else None
        self._lock, self._writing = threading.Lock(), threading.Lock()

    def predict(
        self, rows: Sequence[Mapping[str, Any]] | Sequence[Sequence[Any]] | pa.Table
    ) -> list[dict[str, Any] | None]:
        """The lines that the result file of a run would have, as values by column; a row with n texts has n of them.

        Where a column of `result_header` has the name of one that the outputter makes, the answer has the latter.

        Args:
            rows: mappings by column, of which `predict_header` may name more than are read; sequences in the order of
                `predict_header`; or an Arrow table. Numbers are taken as text, lists of them as text with commas.

        Raises:
            DataError: a row that cannot be read; with `bad_rows="skip"` it has None in its place.
        """
        answers: list[dict[str, Any] | None] = []
        for chunk, block in self._blocks(rows):
            made, rejects = self.answer(chunk, block)
            for row in range(chunk.first_row, chunk.first_row + chunk.rows):
                if row in made:
                    answers += self.read(made[row])
                    continue
                if self.bad_rows == "fail":
                    reject = next(reject for reject in rejects if reject.row == row)
                    raise DataError(f"{ROWS}[{row}]: {reject.problem}; mend it, or set bad_rows='skip'")
                answers.append(None)
        return answers

    def read(self, row: bytes) -> list[dict[str, Any]]:
        """What the outputter wrote of a row, as values by column."""
        return self._outputter.read(row, self.columns)

    def answer(self, chunk: Chunk, block: Block) -> tuple[dict[int, bytes], list[Reject]]:
        """What the outputter writes of each good row of a chunk, by row number, and the bad rows.

        Where bad rows are to fail, none behind the first that cannot be read is answered.
        """
        answers: dict[int, bytes] = {}
        made = self._made(chunk, block)
        count = made.batch.num_rows
        if self.bad_rows == "fail" and made.rejects:
            count = int(np.searchsorted(made.batch.column(ROW).to_numpy(), made.rejects[0].row))
        for given in self._passes(made, chunk.file, count):
            answers.update(zip(given.rows.tolist(), self.lines(given), strict=True))
        return answers, made.rejects

    def texts_of(self, batch: pa.RecordBatch) -> Block:
        """The columns that are read, of rows of another program, as text; rows without a value are rejects.

        Raises:
            DataError: a column that is not there, or is no text or number.
        """
        places_of(self.used, batch.schema.names, ROWS)
        return parse_batch(self.used, Chunk(0, ROWS, "parquet", 0, 0, batch.num_rows, batch))

    def predictions(self, columns: Sequence[pa.Array]) -> tuple[list[Reject], Iterator[Predictions]]:
        """The bad ones of some rows, numbered from 0 on, and the model's answers to the others.

        Answers come a forward pass at a time, as they are made, each for rows of like length; they hold the columns of
        `result_header`. Rows that the task turns out not to take join the bad ones meanwhile.

        Args:
            columns: the text of each column of `used`.
        """
        numbers = np.arange(len(columns[0]))
        chunk = Chunk(0, ROWS, "parquet", 0, 0, len(numbers), None)
        made = self._made(chunk, Block(list(columns), numbers, numbers, ROWS, []))
        return made.rejects, self._passes(made, ROWS, made.batch.num_rows, self._overhead)

    def lines(self, answers: Predictions) -> list[bytes]:
        """What the outputter writes of each row."""
        with self._writing:
            return blocks_of(self._outputter, answers)

    def _made(self, chunk: Chunk, block: Block) -> Made:
        with self._lock:
            return self._processing.make(chunk, block)

    def _passes(self, made: Made, file: str, count: int, overhead: int | None = None) -> Iterator[Predictions]:
        """The answers to the first rows of some features, a forward pass at a time; what the task refuses is bad.

        With an `overhead`, what a pass costs by itself in tokens, passes are as short as that is worth.
        """
        features = made.batch
        numbers, lengths = (features.column(name).to_numpy() for name in (ROW, LENGTH))
        names = [name for name in features.schema.names if name in self._processing.fields]
        table = Table({name: self._processing.fields[name] for name in names}, [len(numbers)], lambda _: features)
        order = np.arange(count)
        if self._by_length:
            order = np.argsort(-lengths[:count], kind="stable")
        ends: Sequence[int] = [*range(self.batch_size, count, self.batch_size), count] if count else []
        if overhead is not None and self._by_length:
            ends = cuts(lengths[order], self.batch_size, overhead)
        waiting = [order[begin:end] for begin, end in zip([0, *ends], ends, strict=False)][::-1]
        while waiting:
            rows = waiting.pop()
            try:
                answers = self._answers(table, rows, numbers[rows])
            except (SceneError, DataError) as error:  # one of them is too long for it, say
                if len(rows) > 1:
                    waiting += [rows[len(rows) // 2 :], rows[: len(rows) // 2]]
                else:
                    row = int(numbers[rows[0]])
                    made.rejects.append(Reject(row, file, row + 1, "", "", f"cannot be answered: {error}", ""))
            else:
                yield answers

    def _answers(self, table: Table, rows: np.ndarray, numbers: np.ndarray) -> Predictions:
        """Those of one forward pass."""
        import torch

        with self._lock, torch.inference_mode():
            batch = self._place.to_device(collate(table, rows, self._padding))
            given = self.scene.model.predict(self._module, batch)
            answers = predictions_of(numbers, self.problem, given, self.class_names)
        answers.columns = table.columns(self._kept, rows)
        return answers

    def _blocks(self, rows: Any) -> Iterable[tuple[Chunk, Block]]:
        if not isinstance(rows, pa.Table):
            records = list(rows)
            chunk = Chunk(0, ROWS, "jsonl", 0, 1, len(records), b"")
            yield chunk, self._block(records)
            return
        places_of(self.used, rows.column_names, ROWS)
        first = 0
        for batch in rows.select(list(self.used.columns)).to_batches():
            chunk = Chunk(0, ROWS, "parquet", first, first + 1, batch.num_rows, batch)
            yield chunk, parse_batch(self.used, chunk)
            first += batch.num_rows

    def _block(self, records: Sequence[Any]) -> Block:
        """Rows of a program as columns of text."""
        values: list[list[str]] = [[] for _ in self.used.columns]
        good: list[int] = []
        rejects: list[Reject] = []
        for number, record in enumerate(records):
            by_column = self._by_column(number, record)
            if by_column is None:
                rejects.append(Reject(number, ROWS, number + 1, "", repr(record), "is no row", ""))
                continue
            texts = [json_text(by_column.get(name)) for name in self.used.columns]
            if None not in texts:
                good.append(number)
                for kept, text in zip(values, texts, strict=True):
                    kept.append(str(text))
                continue
            name = self.used.columns[texts.index(None)]
            value = by_column.get(name)
            reason = "has no value" if value is None else "is no text, number or list of such"
            rejects.append(Reject(number, ROWS, number + 1, name, "" if value is None else repr(value), reason, ""))
        columns = [pa.array(kept, pa.string()) for kept in values]
        numbers = np.array(good, np.int64)
        return Block(columns, numbers, numbers + 1, ROWS, rejects)

    def _by_column(self, number: int, record: Any) -> Mapping[str, Any] | None:
        """A row as values by column; None for one to be skipped: no mapping, and not as long as the header."""
        if isinstance(record, Mapping):
            return record
        header = self.source.columns
        if isinstance(record, Sequence) and not isinstance(record, str | bytes) and len(record) == len(header):
            return dict(zip(header, record, strict=True))
        if self.bad_rows == "skip":
            return None
        wanted = f"a mapping by column, or the values of {self.source.header}, {','.join(header)}"
        raise DataError(f"{ROWS}[{number}] is {record!r:.80}; give {wanted}")


def _used(scene: Scene, source: Source, kept: Sequence[str]) -> tuple[str, ...]:
    """The columns that a processor reads or a result row opens with, in the order of the header."""
    read = {name for item in scene.items("predict") for name in item.inputs} | set(kept)
    return tuple(name for name in source.columns if name in read)


def _source(scene: Scene) -> Source:
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
