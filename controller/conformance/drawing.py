"""Checks of processors that draw: what is drawn for a row depends on its key alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from .case import Case
from .checks import Wrong, check
from .subject import differing, joined, take


def _drawn(case: Case, fields: pa.RecordBatch, keys: np.ndarray) -> pa.RecordBatch:
    return case.subject.draw(case.main, fields, keys)


def _given(case: Case) -> tuple[pa.RecordBatch, np.ndarray]:
    made = case.subject.process(case.main, case.rows)
    return made, np.random.default_rng(3).integers(0, 2**64, made.num_rows, np.uint64)


@check("draw.keys_alone", "Whole, one by one or in another order, a row and its key draw the same.",
       of="processor", ability="draw")  # fmt: skip
def keys_alone(case: Case) -> None:
    fields, keys = _given(case)
    whole, count = _drawn(case, fields, keys), fields.num_rows
    order = np.random.default_rng(4).permutation(count)
    ways = {
        "again": _drawn(case, fields, keys),
        "one by one": joined([_drawn(case, fields.slice(row, 1), keys[row : row + 1]) for row in range(count)]),
        "in another order": take(_drawn(case, take(fields, order), keys[order]), np.argsort(order)),
    }
    for way, made in ways.items():
        if words := differing(whole, made):
            raise Wrong(f"the same rows and keys {way}", words, "the same values")


@check("draw.other_keys", "Other keys draw something else.", of="processor", ability="draw")
def other_keys(case: Case) -> None:
    fields, keys = _given(case)
    first = _drawn(case, fields, keys)
    others = (_drawn(case, fields, keys + np.uint64(step)) for step in range(1, 20))
    if all(differing(first, other) is None for other in others):
        raise Wrong(
            f"{fields.num_rows} rows with 20 sets of keys", "the same each time", "something drawn from the keys"
        )


@check("draw.declared", "What is drawn are fields that were declared, one value a row.", of="processor", ability="draw")
def declared(case: Case) -> None:
    fields, keys = _given(case)
    known = {field.name for field in case.configured().fields}
    drawn = _drawn(case, fields, keys)
    if strange := sorted(set(drawn.schema.names) - known):
        raise Wrong("Draw", f"the field {strange[0]}", f"fields of {', '.join(sorted(known))}")
    if drawn.num_rows != fields.num_rows:
        raise Wrong(f"{fields.num_rows} rows", f"{drawn.num_rows} rows", "as many as were given")
    if missing := sorted(known - set(drawn.schema.names) - set(fields.schema.names)):
        lacking = [field for field in case.configured().fields if field.name in missing]
        if not all(field.padding == "pad_token_type" for field in lacking):
            raise Wrong("Process and Draw", f"no field {', '.join(missing)}", "each declared field by one of them")
