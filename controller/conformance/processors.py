"""Checks of processors: what a row gives depends on that row alone, and is what was declared."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from . import cells
from .case import Case
from .checks import Skipped, Wrong, check, equal, short
from .subject import SAME, Failed, Unread, differing, joined, take

_KINDS = {"int64": pa.types.is_integer, "float32": pa.types.is_floating, "string": pa.types.is_string}


@check("processor.split_invariance", "Whole, in halves, one by one or in another order, a row gives the same.",
       of="processor")  # fmt: skip
def split(case: Case) -> None:
    instance, rows = case.main, case.rows
    whole, count = case.subject.process(instance, rows), rows.num_rows
    half, order = count // 2, np.random.default_rng(5).permutation(count)
    ways = {
        "two halves": joined([case.subject.process(instance, rows.slice(*part)) for part in ((0, half), (half,))]),
        "one by one": joined([case.subject.process(instance, rows.slice(row, 1)) for row in range(count)]),
        "another order": take(case.subject.process(instance, take(rows, order)), np.argsort(order)),
    }
    for way, made in ways.items():
        if words := differing(whole, made):
            raise Wrong(f"{count} rows, whole and {way}", words, SAME)


@check("processor.fields", "Process gives the fields that are declared, in their types, one value a row, none null.",
       of="processor")  # fmt: skip
def fields(case: Case) -> None:
    case.main  # noqa: B018 - skipped where it cannot be configured
    declared = {field.name: field for field in case.configured().fields}
    made = case.subject.process(case.main, case.rows)
    if not declared:
        raise Wrong("Configure", "no fields", "the fields that Process gives")
    for name, column in zip(made.schema.names, made.columns, strict=True):
        if name not in declared:
            raise Wrong("Process", f"the field {name}", f"one of {', '.join(declared)}, which Configure gave")
        field = declared[name]
        equal(f"{case.rows.num_rows} rows", f"{len(column)} values of {name}", f"{case.rows.num_rows} values of {name}")
        is_list = pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type)
        is_list = is_list or pa.types.is_large_list(column.type)
        if is_list == (field.shape == field.SCALAR):
            shape = field.Shape.Name(field.shape).lower()
            raise Wrong(f"field {name}, {shape}", column.type, "a list a row" if not is_list else "a value a row")
        inner = column.type.value_type if is_list else column.type
        if field.dtype not in _KINDS or not _KINDS[field.dtype](inner):
            raise Wrong(f"field {name} of {field.dtype}", column.type, f"numbers or strings as {field.dtype} holds")
        if column.null_count or (is_list and column.flatten().null_count):
            raise Wrong(f"field {name}", "a null", "a value in each place")
        lengths = {len(value) for value in column.to_pylist()} if field.shape == field.FIXED else {0}
        if len(lengths) > 1:
            raise Wrong(f"fixed field {name}", f"rows of {sorted(lengths)} values", "as many values in each row")
    may_lack = "draw" in case.descriptor.abilities or any(
        field.padding.startswith("pad") for field in declared.values()
    )
    if (missing := sorted(set(declared) - set(made.schema.names))) and not may_lack:
        raise Wrong("Process", f"no field {', '.join(missing)}", f"all of {', '.join(declared)}")


@check("processor.repeatable", "The same rows give the same again, and by another instance.", of="processor")
def repeatable(case: Case) -> None:
    instance, rows = case.main, case.rows
    first = case.subject.process(instance, rows)
    case.configured("second")
    for which, made in (("the same instance", instance), ("another instance", case.named("second"))):
        if words := differing(first, case.subject.process(made, rows)):
            raise Wrong(f"the same rows again, to {which}", words, SAME)
    case.released("second")


@check("processor.class_names", "The class names are the same each time, and each class number has its name.",
       of="processor")  # fmt: skip
def class_names(case: Case) -> None:
    case.main  # noqa: B018 - skipped where it cannot be configured
    names = list(case.configured().class_names)
    equal("Configure of another instance", list(case.configured("second").class_names), names)
    case.released("second")
    if not names:
        raise Skipped("it makes no labels from names")
    if len(set(names)) < len(names):
        raise Wrong("class_names", names, "each name once")
    made = case.subject.process(case.main, case.rows)
    for name in set(made.schema.names) & {"labels"}:
        values = made.column(name)
        if pa.types.is_integer(values.type):
            most = max(values.to_pylist())
            if most >= len(names):
                raise Wrong(f"the class names {', '.join(names)}", f"class {most}", f"classes 0 to {len(names) - 1}")


@check("processor.bad_rows", "BadRows names each row that cannot be read, its column and value; the rest is read.",
       of="processor")  # fmt: skip
def bad_rows(case: Case) -> None:
    instance, rows = case.main, case.rows
    good = case.subject.process(instance, rows)
    column, value = _refused(case)
    places = [2, rows.num_rows - 1]
    texts = rows.column(column).to_pylist()
    for place in places:
        texts[place] = value
    mixed = rows.set_column(column, rows.schema.field(column), pa.array(texts, pa.string()))
    given = f"{rows.num_rows} rows with {value!r} in rows {places[0]} and {places[1]}"
    try:
        case.subject.process(instance, mixed)
    except Unread as unread:
        named = unread.rows
    else:
        raise Wrong(given, "an answer", "BadRows")
    found = sorted({bad.row for bad in named})
    if found != places:
        raise Wrong(given, f"BadRows of rows {found}", f"BadRows of rows {places}")
    for bad in named:
        right = {name: mixed.column(name)[bad.row].as_py() for name in mixed.schema.names}
        if right.get(bad.column) != bad.value:
            cells_of = ", ".join(f"{name!r} with {text!r}" for name, text in right.items())
            raise Wrong(given, f"column {bad.column!r}, value {bad.value!r}", f"column {cells_of}")
        if not bad.reason.strip():
            raise Wrong(given, "a bad row without a reason", "what would be right, as 'is not a whole number'")
    rest = [row for row in range(rows.num_rows) if row not in places]
    if words := differing(take(good, rest), case.subject.process(instance, take(mixed, rest))):
        raise Wrong("the rows that are left", words, "what they give without bad rows beside them")


def _refused(case: Case) -> tuple[int, str]:
    """A column and a value that is a bad row there."""
    tried = ["?", "", *cells.ODD.values(), "no such label", "1,2,3,4,5", "one two three four five six seven eight nine"]
    for column, name in enumerate(case.rows.schema.names):
        for value in tried:
            texts = [value, *case.rows.column(column).to_pylist()[1:]]
            mixed = case.rows.set_column(column, name, pa.array(texts, pa.string()))
            try:
                case.subject.process(case.main, mixed)
            except Unread:
                return column, value
            except Failed:
                continue
    raise Skipped("no text that was tried is a bad row")


@check("processor.odd_texts", "Texts that real files hold are read or are bad rows, and change nothing beside them.",
       of="processor")  # fmt: skip
def odd_texts(case: Case) -> None:
    _beside(case, cells.ODD)


@check("processor.long_text", "A text of a million characters is read or named as a bad row.", of="processor")
def long_text(case: Case) -> None:
    size = 20_000 if case.quick else 200_000
    _beside(case, {f"a text of {5 * size} characters": "word " * size, f"a word of {size} characters": "w" * size})


def _beside(case: Case, texts: dict[str, str]) -> None:
    """Each text in each column, beside rows that are known to be read."""
    instance = case.main
    good = case.rows.slice(0, 3)
    known = case.subject.process(instance, good)
    for what, text in texts.items():
        for column in range(good.num_columns):
            cellsof = [*good.column(column).to_pylist(), text]
            mixed = take(good, [0, 1, 2, 0])
            mixed = mixed.set_column(column, good.schema.field(column), pa.array(cellsof, pa.string()))
            given = f"{what}, {short(repr(text), 40)}"
            try:
                made = case.subject.process(instance, mixed)
            except Unread as unread:
                if {bad.row for bad in unread.rows} != {3}:
                    raise Wrong(f"{given}, in row 3 of 4", unread, "a bad row 3, or none") from None
                continue
            except Failed as failed:
                raise Wrong(given, failed, "features, or a bad row") from None
            if words := differing(known, made.slice(0, 3)):
                raise Wrong(f"{given}, below three rows", words, "the same values of these rows")
            if words := differing(made.slice(3), case.subject.process(instance, mixed.slice(3))):
                raise Wrong(f"{given}, among others and alone", words, SAME)
