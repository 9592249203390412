"""A finished model in memory that answers rows as they come, by the processors and outputter of a run.

`load("runs/sentiment", predict_header="text", result_header="text").predict([{"text": "Loved this place."}])` gives
`[{"text": "Loved this place.", "scores": [0.02, 0.98]}]`.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from . import cpu_bf16, settings
from .batches import BatchSettings, collate, cuts
from .caches import CacheSettings
from .check import examine
from .columnar import parse_batch, places_of
from .contracts import Predictions, Problem
from .deepspeed_config import compute_dtype, read_config
from .engine import EngineSettings
from .errors import DataError, SceneError
from .evaluation import predictions_of
from .finished import ROWS, Finished, source_of, used
from .parsing import plain
from .pretrained import Pretrained, PretrainedSettings
from .processing import LENGTH, ROW, Made, Processing
from .ranks import Ranks
from .readers import json_text
from .results import ResultSettings
from .rows import Block, Chunk, Reject, RowSettings
from .scene import Scene
from .table import Table
from .unpadded import Unpadded

CPU_OVERHEAD = 48
"""Tokens that a forward pass costs by itself on a CPU, about; on a GPU, and in generation, it is not worth counting."""


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


class Predictor(Finished):
    """A model that answers rows. Threads may share it: they take turns."""

    def __init__(self, scene: Scene) -> None:
        """Loads the model of a scene, to a GPU where there is one.

        Raises:
            SceneError, PluginError: the scene cannot predict.
        """
        source = source_of(scene)
        examine(scene, source)
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
        self._processing = Processing(scene, "predict", pretrained, kept, used(scene, source))
        problem: Problem = scene.model.problem(self._processing.fields.get("labels"))
        super().__init__(scene, source, problem, scene.model.class_names(self._module))
        batches = scene.read(BatchSettings)
        self.batch_size, self._by_length = batches.per_device_eval_batch_size, batches.group_by_length
        self.bad_rows = scene.read(RowSettings).bad_rows
        self._unpadded = Unpadded(self._module)
        self._costly = device.type == "cpu" and (problem != "text" or bool(self._unpadded))
        """Padding takes time that is worth saving: also with tags, which are text, but not in generation."""
        self._lock = threading.Lock()

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

    def predictions(self, columns: Sequence[pa.Array]) -> tuple[list[Reject], Generator[Predictions, None, None]]:
        """The bad ones of some rows, numbered from 0 on, and the model's answers to the others.

        Answers come a forward pass at a time, as they are made, each for rows of like length; they hold the columns of
        `result_header`. Rows that the task turns out not to take join the bad ones meanwhile.

        Args:
            columns: the text of each column of `used`.
        """
        numbers = np.arange(len(columns[0]))
        chunk = Chunk(0, ROWS, "parquet", 0, 0, len(numbers), None)
        made = self._made(chunk, Block(list(columns), numbers, numbers, ROWS, []))
        return made.rejects, self._passes(made, ROWS, made.batch.num_rows, self._costly)

    def _made(self, chunk: Chunk, block: Block) -> Made:
        with self._lock:
            return self._processing.make(chunk, block)

    def _passes(self, made: Made, file: str, count: int, lean: bool = False) -> Generator[Predictions, None, None]:
        """The answers to the first rows of some features, a forward pass at a time; what the task refuses is bad.

        `lean`: without padding where the model can do that, and otherwise in passes as short as they are worth.
        """
        features = made.batch
        numbers, lengths = (features.column(name).to_numpy() for name in (ROW, LENGTH))
        names = [name for name in features.schema.names if name in self._processing.fields]
        table = Table({name: self._processing.fields[name] for name in names}, [len(numbers)], lambda _: features)
        order = np.arange(count)
        if self._by_length:
            order = np.argsort(-lengths[:count], kind="stable")
        ends: Sequence[int] = [*range(self.batch_size, count, self.batch_size), count] if count else []
        if lean and self._by_length and not self._unpadded:
            ends = cuts(lengths[order], self.batch_size, CPU_OVERHEAD)
        waiting = [order[begin:end] for begin, end in zip([0, *ends], ends, strict=False)][::-1]
        while waiting:
            rows = waiting.pop()
            try:
                answers = self._answers(table, rows, numbers[rows], lean)
            except (SceneError, DataError) as error:  # one of them is too long for it, say
                if len(rows) > 1:
                    waiting += [rows[len(rows) // 2 :], rows[: len(rows) // 2]]
                else:
                    row = int(numbers[rows[0]])
                    made.rejects.append(Reject(row, file, row + 1, "", "", f"cannot be answered: {error}", ""))
            else:
                yield answers

    def _answers(self, table: Table, rows: np.ndarray, numbers: np.ndarray, lean: bool) -> Predictions:
        """Those of one forward pass."""
        import torch

        with self._lock, torch.inference_mode(), self._unpadded.layers() if lean else nullcontext():
            batch = self._place.to_device(collate(table, rows, self._padding))
            given = self.scene.model.predict(self._module, batch)
            answers = predictions_of(numbers, self.problem, given, self.class_names)
        answers.columns = table.columns(self.kept, rows)
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
