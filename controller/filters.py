"""The filter and order of ListJobs as SQL with parameters, and its page tokens.

    state = RUNNING AND labels.team = nlp        state = (QUEUED OR RUNNING)        owner != "ada"
    priority >= 5 AND create_time > "2026-01-01T00:00:00Z"                          scene = sentiment

`!=` holds also for a job without the label. Nothing that a caller writes becomes part of the SQL text.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from deepgen.v1.job_pb2 import Job

from ..kernel.errors import did_you_mean
from .jobs import ENDED, Refused

LONGEST, TERMS, CHOICES = 2000, 20, 50
"""Characters of a filter, terms in it, values of a choice."""
FIELDS = ("state", "owner", "scene", "priority", "create_time", "labels.KEY")
ORDERS = {
    "create_time desc": ("created", True),
    "create_time": ("created", False),
    "priority desc": ("priority", True),
    "priority": ("priority", False),
}
_TOKEN = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|[A-Za-z0-9_./:+@-]+|!=|<=|>=|[=<>()])""")
_KEY = struct.Struct(">8sqq")


class Cursor(NamedTuple):
    """The last job of a page: what it is sorted by, and its number."""

    key: int
    number: int


@dataclass(frozen=True)
class Query:
    """Which jobs, and in which order; `condition` and `index` are written by this file alone."""

    condition: str = "1"
    parameters: tuple[str | int, ...] = ()
    column: str = "created"
    descending: bool = True
    index: str = "job_created"
    labelled: tuple[tuple[str, tuple[str | int, ...]], ...] = ()
    """For each label that is asked for: the numbers of the jobs that have it."""

    def select(self, after: Cursor | None, few: int | None = None) -> tuple[str, tuple[str | int, ...]]:
        """Numbers of the jobs behind `after` with what they are sorted by, without a limit.

        `few`: which one of `labelled` so few jobs have that they are better sorted than found in the sorted index.
        """
        way, beyond = ("DESC", "<") if self.descending else ("ASC", ">")
        condition, parameters = self.condition, self.parameters
        if after is not None:
            condition = f"({condition}) AND (job.{self.column}, job.number) {beyond} (?, ?)"
            parameters = (*parameters, after.key, after.number)
        source = f"job INDEXED BY {self.index}"
        if few is not None:
            source = "job NOT INDEXED"  # but by number
            condition = f"job.number IN ({self.labelled[few][0]}) AND ({condition})"
            parameters = (*self.labelled[few][1], *parameters)
        return (
            f"SELECT job.{self.column} AS key, job.number FROM {source} WHERE {condition} "
            f"ORDER BY job.{self.column} {way}, job.number {way}",
            parameters,
        )

    @property
    def digest(self) -> bytes:
        """Of the query, for the tokens of its pages."""
        asked = repr((self.condition, self.parameters, self.column, self.descending))
        return hashlib.sha256(asked.encode()).digest()[:8]


def parse(filter: str = "", order_by: str = "", owner: str | None = None) -> Query:
    """The query of a ListJobs request; with `owner` only of that owner's jobs. Refused when it is not well-formed."""
    if len(filter) > LONGEST:
        raise Refused(f"the filter has {len(filter)} characters; at most {LONGEST} are taken", field="filter")
    order = " ".join(order_by.split()) or "create_time desc"
    if order.removesuffix(" asc") not in ORDERS:
        hint = did_you_mean(order, ORDERS)
        raise Refused(f"cannot order by {order_by!r}{hint or '; known: ' + ', '.join(ORDERS)}", field="order_by")
    column, descending = ORDERS[order.removesuffix(" asc")]
    terms = list(_terms(filter))
    if len(terms) > TERMS:
        raise Refused(f"the filter has {len(terms)} terms; at most {TERMS} are taken", field="filter")
    conditions, parameters, labelled = [], [], []
    fixed: list[str] = []
    for name, sign, values in terms:
        condition, found = _condition(name, sign, values)
        conditions.append(condition)
        parameters += found
        if name.startswith("labels.") and sign == "=":
            marks = ", ".join("?" * len(values))
            labelled.append((f"SELECT job FROM label WHERE key = ? AND value IN ({marks})", tuple(found)))
        if sign == "=" and len(values) == 1:
            fixed.append("open" if name == "state" and found[0] not in ENDED else name)
    if owner is not None:
        conditions.append("job.owner = ?")
        parameters.append(owner)
        fixed.append("owner")
    # Few jobs are open; many have ended. By priority, walking over all is quicker than sorting an owner's.
    narrow = [name for name in ("open", "owner", "scene", "state") if name in fixed and column == "created"]
    index = f"job_{narrow[0] if narrow else column}".replace("open", "state")
    return Query(" AND ".join(conditions) or "1", tuple(parameters), column, descending, index, tuple(labelled))


def page_token(query: Query, cursor: Cursor | None) -> str:
    """What a client sends back for the next page; empty after the last one."""
    if cursor is None:
        return ""
    return base64.urlsafe_b64encode(_KEY.pack(query.digest, cursor.key, cursor.number)).decode()


def cursor(query: Query, token: str) -> Cursor | None:
    """Where the page of a token begins; Refused when the token is of another query, or of nobody's making."""
    if not token:
        return None
    try:
        digest, key, number = _KEY.unpack(base64.b64decode(token, b"-_", validate=True))
    except (binascii.Error, struct.error, ValueError):
        digest = b""
    if digest != query.digest:
        raise Refused(
            "page_token is not of this list: keep filter and order_by as they were, or begin without a token",
            field="page_token",
        )
    return Cursor(key, number)


def _tokens(text: str) -> Iterator[str]:
    place = 0
    while text[place:].strip():
        match = _TOKEN.match(text, place)
        if match is None:
            raise _wrong(f"cannot be read from {text[place:].strip()[:20]!r} on")
        yield match[1]
        place = match.end()


def _terms(text: str) -> Iterator[tuple[str, str, list[str]]]:
    """(field, sign, values) of each term."""
    tokens = _tokens(text)
    name: str | None = next(tokens, None)
    while name is not None:
        sign, value = next(tokens, ""), next(tokens, "")
        if name[0] in '"()=!<>' or sign not in ("=", "!=", "<", "<=", ">", ">=") or value in ("", ")", "AND", "OR"):
            raise _wrong(f"has {' '.join((name, sign, value)).strip()!r} where a term such as state = RUNNING belongs")
        values = [_plain(value)] if value != "(" else list(_choice(tokens))
        yield name, sign, values
        joint = next(tokens, None)
        if joint not in (None, "AND"):
            raise _wrong(f"has {joint!r} between terms; they are joined by AND")
        name = next(tokens, None)
        if joint and name is None:
            raise _wrong("ends with AND")


def _choice(tokens: Iterator[str]) -> Iterator[str]:
    """The values up to the closing bracket."""
    for _ in range(CHOICES):
        yield _plain(next(tokens, ""))
        joint = next(tokens, "")
        if joint == ")":
            return
        if joint != "OR":
            raise _wrong("has a choice that is not like (QUEUED OR RUNNING)")
    raise _wrong(f"has a choice of more than {CHOICES} values")


def _plain(token: str) -> str:
    if token.startswith('"'):
        return re.sub(r"\\(.)", r"\1", token[1:-1])
    if not token or token[0] in "()=!<>" or token in ("AND", "OR"):
        raise _wrong(f"has {token!r} where a value belongs; put it in double quotes if it is one")
    return token


def _condition(name: str, sign: str, values: list[str]) -> tuple[str, list[str | int]]:
    """One term as SQL, with its parameters."""
    found: list[str | int]
    if name == "state":
        found = [_state(value) for value in values]
    elif name == "priority":
        found = [_priority(value) for value in values]
    elif name == "create_time":
        found = [_time(value) for value in values]
    elif name in ("owner", "scene") or (name.startswith("labels.") and len(name) > len("labels.")):
        found = list(values)
    else:
        raise _wrong(f"names no field {name!r}{did_you_mean(name, FIELDS) or '; known: ' + ', '.join(FIELDS)}")
    if sign not in ("=", "!=") and (name not in ("priority", "create_time") or len(values) > 1):
        raise _wrong(f"compares {name} by {sign}; only = and != are possible there")
    column = "created" if name == "create_time" else name
    marks = ", ".join("?" * len(found))
    if name.startswith("labels."):
        exists = f"EXISTS (SELECT 1 FROM label WHERE label.job = job.number AND key = ? AND value IN ({marks}))"
        return exists if sign == "=" else f"NOT {exists}", [name.removeprefix("labels."), *found]
    if len(found) > 1:
        return f"job.{column} {'IN' if sign == '=' else 'NOT IN'} ({marks})", found
    return f"job.{column} {sign} ?", found


def _state(value: str) -> int:
    names = Job.State.keys()[1:]
    if value not in names:
        raise _wrong(f"names no state {value!r}{did_you_mean(value.upper(), names) or '; known: ' + ', '.join(names)}")
    return Job.State.Value(value)


def _priority(value: str) -> int:
    if not re.fullmatch(r"[+-]?\d{1,9}", value, re.ASCII):
        raise _wrong(f"has priority {value!r}; it is a whole number")
    return int(value)


def _time(value: str) -> int:
    """Microseconds since 1970."""
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise ValueError
        return round(moment.timestamp() * 1e6)
    except (ValueError, OverflowError):
        raise _wrong(f'has the time {value!r}; it is written as "2026-01-01T00:00:00Z", with a zone') from None


def _wrong(what: str) -> Refused:
    return Refused(f"the filter {what}", field="filter")
