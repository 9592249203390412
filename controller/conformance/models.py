"""Checks of served models: rows are answered in order, alone as among others, and are validated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from deepgen.v1.model_service_pb2 import PredictRequest
from deepgen.v1.payload_pb2 import Payload

from ...kernel.wire_features import LINES
from . import cells, parcels
from .case import Case
from .checks import Skipped, Wrong, check, equal, one_of, short
from .load import wire
from .subject import Failed, Unread, differing, joined, take
from .wire import Refused

CLOSE = 1e-3
"""Batches are padded to other lengths, which moves the last digits."""


def _rows(case: Case) -> pa.RecordBatch:
    """Rows for its columns, of those families that it reads."""
    values = cells.families([])
    names = [field.name for field in case.descriptor.inputs]
    for family in ("sentences", "a label for each word", "numbers", "labels"):
        rows = pa.RecordBatch.from_arrays([pa.array(values[family][:12]) for _ in names], names=names)
        try:
            case.subject.predict(rows)
        except Unread as unread:
            bad = {row.row for row in unread.rows}
            rows = take(rows, [row for row in range(rows.num_rows) if row not in bad])
            if rows.num_rows < 6:
                continue
        except Failed:
            continue
        return rows
    raise Skipped("no rows were found that it can read")


def _answers(rows: pa.RecordBatch) -> pa.RecordBatch:
    kept = [name for name in rows.schema.names if name in ("scores", "texts", "line") or ":" in name]
    return rows.select(kept)


@check("model.predict", "Each row is answered, with scores, texts or vectors.", of="model")
def predict(case: Case) -> None:
    rows = _rows(case)
    made = case.subject.predict(rows)
    equal(f"{rows.num_rows} rows", f"{made.num_rows} answers", f"{rows.num_rows} answers")
    if not _answers(made).schema.names:
        raise Wrong("Predict", f"the columns {', '.join(made.schema.names)}", "scores, texts, vector:SIDE or more:NAME")


@check("model.split_invariance", "Whole, one by one or in another order, a row is answered the same.", of="model")
def split(case: Case) -> None:
    rows = _rows(case)
    whole, order = _answers(case.subject.predict(rows)), np.arange(rows.num_rows)[::-1]
    ways: dict[str, Callable[[], pa.RecordBatch]] = {
        "again": lambda: case.subject.predict(rows),
        "one by one": lambda: joined([case.subject.predict(rows.slice(row, 1)) for row in range(rows.num_rows)]),
        "in another order": lambda: take(case.subject.predict(take(rows, order)), order),
    }
    for way, ask in ways.items():
        if words := differing(whole, _answers(ask()), CLOSE):
            raise Wrong(f"{rows.num_rows} rows {way}", words, f"the same answers, within {CLOSE}")


@check("model.columns_more", "Columns that it does not need are not looked at.", of="model")
def more(case: Case) -> None:
    rows = _rows(case)
    wider = rows.append_column("no_such_column", pa.array(list(range(rows.num_rows))))
    if words := differing(_answers(case.subject.predict(rows)), _answers(case.subject.predict(wider)), CLOSE):
        raise Wrong("a column more", words, "the same answers")


@check("model.column_missing", "A column that it needs and is not there is refused by name.", of="model")
def missing(case: Case) -> None:
    rows = _rows(case)
    name = rows.schema.names[-1]
    less = rows.select([one for one in rows.schema.names if one != name])
    less = less.append_column("another", pa.array(["x"] * rows.num_rows))
    try:
        case.subject.predict(less)
    except Failed as failed:
        if name not in failed.message:
            raise Wrong(f"rows without '{name}'", failed, f"words that name '{name}'") from None
    except Refused as refused:
        one_of(f"rows without '{name}'", refused.code, ("INVALID_ARGUMENT",))
    else:
        raise Wrong(f"rows without '{name}'", "answers", f"a failure that names '{name}'")
    wire(case).still_well("rows without a column")


@check("model.stream", "A stream is answered in the order of its requests.", of="model")
def stream(case: Case) -> None:
    rows = _rows(case)
    link = wire(case)
    parts = [rows.slice(row, 1 + row % 3) for row in range(0, rows.num_rows - 2, 2)]
    requests = [PredictRequest(rows=Payload(arrow=parcels.batch(part))) for part in parts]
    answers = link.stream(link.model.PredictStream, iter(requests))
    equal(f"{len(parts)} requests", f"{len(answers)} answers", f"{len(parts)} answers")
    for part, answer in zip(parts, answers, strict=True):
        made = parcels.opened(link, answer.answers.rows, what="PredictStream")
        if words := differing(_answers(case.subject.predict(part)), _answers(made), CLOSE):
            raise Wrong("requests in a stream", words, "the answers as to Predict, in order")


@check("model.stream_cancelled", "A stream that is cancelled in the middle does no harm: the next call is answered.",
       of="model")  # fmt: skip
def stream_cancelled(case: Case) -> None:
    rows = _rows(case)
    link = wire(case)
    before = _answers(case.subject.predict(rows))
    request = PredictRequest(rows=Payload(arrow=parcels.batch(rows)))
    for _ in range(3):
        answers: Any = link.model.PredictStream(iter([request] * 200), timeout=60, metadata=link.metadata())
        next(answers)
        answers.cancel()
        link.still_well("a stream that was cancelled")
        if words := differing(before, _answers(case.subject.predict(rows)), CLOSE):
            raise Wrong("a call after a stream that was cancelled", words, "the answers as before")
    made = len(link.stream(link.model.PredictStream, iter([request] * 3)))
    equal("3 requests, after streams that were cancelled", f"{made} answers", "3 answers")


@check("model.lines", "With `lines`, each row has the line of a result file, too.", of="model")
def lines(case: Case) -> None:
    from .far import Far

    assert isinstance(case.subject, Far), "a model is served"
    if LINES not in case.subject.at.features:
        raise Skipped(f"it has not {LINES}")
    made = case.subject.predict(_rows(case), lines=True)
    if "line" not in made.schema.names or not pa.types.is_binary(made.column("line").type):
        raise Wrong("lines", f"the columns {made.schema}", "also `line`, binary")


@check("model.odd_texts", "Texts that real files hold are answered, or named as bad rows.", of="model")
def odd_texts(case: Case) -> None:
    good = _rows(case).slice(0, 2)
    for what, text in {**cells.ODD, "a long text": "word " * 5000}.items():
        arrays = [pa.array([*column.to_pylist(), text]) for column in good.columns]
        try:
            made = case.subject.predict(pa.RecordBatch.from_arrays(arrays, names=good.schema.names))
        except Unread as unread:
            if {bad.row for bad in unread.rows} != {2}:
                raise Wrong(f"{what}, in row 2 of 3", unread, "a bad row 2, or none") from None
            continue
        except Failed as failed:
            raise Wrong(f"{what}, {short(repr(text), 40)}", failed, "an answer, or a bad row") from None
        equal(what, f"{made.num_rows} answers", "3 answers")
