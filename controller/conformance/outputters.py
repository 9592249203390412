"""Checks of outputters: what is written of a row depends on that row alone, and stays whole lines."""

from __future__ import annotations

import numpy as np

from ...kernel.contracts import Predictions
from .answers import CLASSES, RESULT_COLUMNS, predictions, taken
from .case import Case
from .cells import ODD
from .checks import Skipped, Wrong, check, short
from .subject import Failed, alike

ROWS = 23


def format_all(case: Case, given: Predictions) -> list[bytes]:
    """What it writes of each row, as bytes."""
    made = case.subject.format(case.main, given)
    return [row.encode() if isinstance(row, str) else row for row in made]


@check("outputter.split_invariance", "Whole, in halves, one by one or in another order, a row is written the same.",
       of="outputter")  # fmt: skip
def split(case: Case) -> None:
    for problem in case.problems:
        given = predictions(problem, range(ROWS))
        whole, order = format_all(case, given), np.random.default_rng(2).permutation(ROWS)
        halves = [format_all(case, taken(given, part)) for part in (range(9), range(9, ROWS))]
        mixed = format_all(case, taken(given, order))
        ways = {
            "two halves": halves[0] + halves[1],
            "one by one": [format_all(case, taken(given, [row]))[0] for row in range(ROWS)],
            "another order": [mixed[place] for place in np.argsort(order)],
        }
        for way, made in ways.items():
            if made != whole:
                row = next((row for row in range(min(len(made), ROWS)) if made[row] != whole[row]), 0)
                came = f"row {row}: {made[row]!r} and {whole[row]!r}" if made else "no rows"
                raise Wrong(f"{problem}: {ROWS} rows whole and in {way}", came, "the same bytes of each row")


@check("outputter.whole_lines", "Each row is one or several whole lines, each ending in a newline; one value a row.",
       of="outputter")  # fmt: skip
def whole_lines(case: Case) -> None:
    for problem in case.problems:
        made = case.subject.format(case.main, predictions(problem, range(ROWS)))
        if len(made) != ROWS:
            raise Wrong(f"{problem}: {ROWS} rows", f"{len(made)} values", "one a row")
        for row, text in enumerate(made):
            if isinstance(text, bytes) and "assemble" not in case.descriptor.abilities:
                raise Wrong(f"{problem}: row {row}", "bytes", "text, or the ability 'assemble'")
            if isinstance(text, str) and not text.endswith("\n"):
                raise Wrong(f"{problem}: row {row}", repr(text), "text that ends in a newline")


@check("outputter.columns", "Columns names the columns of the file for each problem it fits.", of="outputter")
def columns(case: Case) -> None:
    if not case.problems:
        raise Wrong("Describe", "no problem that it fits", "at least one")
    for problem in case.problems:
        for given in ((), RESULT_COLUMNS):
            named = case.subject.columns(case.main, problem, given)
            if not named or not all(named):
                raise Wrong(f"{problem}, result columns {given}", f"the columns {named}", "names")
            again = case.subject.columns(case.main, problem, given)
            if again != named:
                raise Wrong(f"{problem}: the same call again", again, named)


@check("outputter.read", "Read gives back what Format wrote: the columns by name, and the result columns' own texts.",
       of="outputter")  # fmt: skip
def reads(case: Case) -> None:
    for problem in case.problems:
        _read_back(case, problem, predictions(problem, range(5)), "plain texts")


@check("outputter.odd_texts", "Texts with TABs, newlines and all of Unicode stay within their row and come back.",
       of="outputter")  # fmt: skip
def odd_texts(case: Case) -> None:
    texts = list(ODD.values())
    for problem in case.problems:
        given = predictions(problem, range(len(texts)))
        plain = format_all(case, given)
        given.columns = {name: list(texts) for name in RESULT_COLUMNS}
        if given.texts is not None:
            given.texts = [[text, *rest[1:]] for text, rest in zip(texts, given.texts, strict=True)]
        try:
            made = case.subject.format(case.main, given)
        except Failed as failed:
            raise Wrong(f"{problem}: {', '.join(ODD)}", failed, "rows of the file") from None
        for what, before, after in zip(ODD, plain, made, strict=True):
            if isinstance(after, str) and after.count("\n") != before.count(b"\n"):
                lines = f"{after.count(chr(10))} lines: {after!r}"
                raise Wrong(f"{problem}: {what}", lines, "as many as of any text")
        _read_back(case, problem, given, "odd texts")


def _read_back(case: Case, problem: str, given: Predictions, what: str) -> None:
    """Only where values by column can be had: a class in this process, or the ability `read`."""
    if "read" not in case.descriptor.abilities and "assemble" in case.descriptor.abilities:
        raise Skipped("its rows are bytes that it does not read")
    names = case.subject.columns(case.main, problem, RESULT_COLUMNS)
    for row, data in enumerate(format_all(case, given)):
        if "read" in case.descriptor.abilities:
            lines = case.subject.read(case.main, data, names)
        else:
            lines = _cells(problem, row, data, names)
        if not lines:
            raise Wrong(f"{problem}, {what}: row {row}, {short(data, 80)}", "no lines", "one or several")
        for line in lines:
            for name in RESULT_COLUMNS:
                if name in line and not alike(line[name], given.columns[name][row]):
                    raise Wrong(f"{problem}, {what}: {name} {given.columns[name][row]!r}", repr(line[name]), "the same")


def _cells(problem: str, row: int, data: bytes, names: list[str]) -> list[dict[str, str]]:
    """The texts between TABs."""
    from ...kernel.lines import cells

    lines = cells(data)
    for line in lines:
        if len(line) != len(names):
            raise Wrong(f"{problem}: row {row}, {data!r}", f"{len(line)} cells", f"the columns {', '.join(names)}")
    return [dict(zip(names, line, strict=True)) for line in lines]


@check("outputter.odd_numbers", "nan and infinite scores of a model are written, and their row stays a row.",
       of="outputter")  # fmt: skip
def odd_numbers(case: Case) -> None:
    found = False
    for problem in case.problems:
        given = predictions(problem, range(ROWS))
        plain = format_all(case, given)
        for array in (given.scores, *given.vectors.values()):
            if array is not None:
                found = True
                for row, number in enumerate((np.nan, np.inf, -np.inf, 3e38, 1e-45)):
                    array[row] = number
        try:
            made = format_all(case, given)
        except Failed as failed:
            raise Wrong(f"{problem}: scores that are nan or infinite", failed, "rows of the file") from None
        if made[5:] != plain[5:]:
            raise Wrong(f"{problem}: nan in other rows", "other bytes of rows without it", "the same bytes")
    if not found:
        raise Skipped("it writes no numbers")


@check("outputter.class_names", "Answers of a model without class names, and with one logit, are written.",
       of="outputter")  # fmt: skip
def without_names(case: Case) -> None:
    fitting = [problem for problem in case.problems if problem.endswith("label_classification")]
    if not fitting:
        raise Skipped("it writes no classes")
    for problem in fitting:
        for names in ((), CLASSES):
            given = predictions(problem, range(4))
            given.class_names = names
            format_all(case, given)
        lone = predictions(problem, range(4))
        assert lone.scores is not None
        lone.scores, lone.class_names = lone.scores[:, :1], ("no", "yes")
        if problem.startswith("single") and len(format_all(case, lone)) != 4:
            raise Wrong(f"{problem}: one logit", "not 4 rows", "one value a row")


@check("outputter.assemble", "In one portion or in many, the same rows make the same file.",
       of="outputter", ability="assemble")  # fmt: skip
def assemble(case: Case) -> None:
    for problem in case.problems:
        rows = format_all(case, predictions(problem, range(ROWS)))
        whole = case.subject.assemble(case.main, [rows], ROWS)
        for size in (1, 5):
            portions = [rows[begin : begin + size] for begin in range(0, ROWS, size)]
            if case.subject.assemble(case.main, portions, ROWS) != whole:
                given = f"{problem}: {ROWS} rows in one portion and in portions of {size}"
                raise Wrong(given, "another file", "the same bytes")
        if not whole:
            raise Wrong(f"{problem}: {ROWS} rows", "an empty file", "the file")
        case.subject.assemble(case.main, [], 0)
