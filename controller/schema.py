"""The tables of the controller's SQLite file, how a file is opened, and how an older one is brought up to date."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from ..kernel.errors import UserError
from . import faults

APPLICATION = 0x44476A31
"""SQLite's application_id of a controller's file."""
BUSY = 5.0
"""Seconds that a connection waits for a lock of another process; the writer waits longer, see store.py."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    # Version 1. Messages are kept whole in `body`; the columns beside it are what is searched and sorted by.
    # Times are microseconds since 1970 in `created`, else seconds.
    (
        """CREATE TABLE job (
            number INTEGER PRIMARY KEY AUTOINCREMENT,   -- the order of submission
            id TEXT NOT NULL UNIQUE,
            owner TEXT NOT NULL,
            scene TEXT NOT NULL,
            state INTEGER NOT NULL,
            priority INTEGER NOT NULL,
            created INTEGER NOT NULL,
            ranks INTEGER NOT NULL,
            preemptible INTEGER NOT NULL,
            not_before REAL NOT NULL,
            seconds_left REAL,                          -- of the time limit
            etag TEXT NOT NULL,
            ledger TEXT NOT NULL,                       -- JSON, see jobs.Ledger
            body BLOB NOT NULL                          -- Job without its progress
        )""",
        # Covering: a page or a plan is found without reading the bodies of those that do not fit.
        "CREATE INDEX job_created ON job (created, number, state, owner, scene, priority)",
        "CREATE INDEX job_priority ON job (priority, number, state, owner, scene, created)",
        "CREATE INDEX job_state ON job (state, created, number, owner, scene, priority)",
        "CREATE INDEX job_owner ON job (owner, created, number, state, scene, priority)",
        "CREATE INDEX job_scene ON job (scene, created, number, state, owner, priority)",
        """CREATE INDEX job_queue
            ON job (priority DESC, number, not_before, id, owner, ranks, preemptible, seconds_left) WHERE state = 1""",
        "CREATE INDEX job_retry ON job (not_before) WHERE state = 1",
        "CREATE INDEX job_live ON job (number) WHERE state IN (2, 3, 4, 6)",
        """CREATE TABLE label (
            job INTEGER NOT NULL REFERENCES job (number) ON DELETE CASCADE,
            key TEXT NOT NULL,
            value TEXT NOT NULL,
            PRIMARY KEY (job, key)
        ) WITHOUT ROWID""",
        "CREATE INDEX label_value ON label (key, value, job)",
        # Apart from the job: it is written often, and a job's row can be long.
        """CREATE TABLE progress (
            job INTEGER PRIMARY KEY REFERENCES job (number) ON DELETE CASCADE,
            body BLOB NOT NULL
        )""",
        """CREATE TABLE attempt (
            job INTEGER NOT NULL REFERENCES job (number) ON DELETE CASCADE,
            number INTEGER NOT NULL,
            body BLOB NOT NULL,
            PRIMARY KEY (job, number)
        )""",
        """CREATE TABLE event (
            sequence INTEGER PRIMARY KEY AUTOINCREMENT,
            time REAL NOT NULL,
            type INTEGER NOT NULL,
            job_id TEXT NOT NULL,
            owner TEXT NOT NULL,
            actor TEXT NOT NULL,
            request_id TEXT NOT NULL,
            body BLOB NOT NULL                          -- Job as it was then
        )""",
        "CREATE INDEX event_job ON event (job_id, sequence)",
        "CREATE INDEX event_owner ON event (owner, sequence)",
        """CREATE TABLE request (
            owner TEXT NOT NULL,
            request_id TEXT NOT NULL,
            digest BLOB NOT NULL,
            job INTEGER NOT NULL,                       -- its number, which no other job ever has
            job_id TEXT NOT NULL,
            time REAL NOT NULL,
            PRIMARY KEY (owner, request_id)
        ) WITHOUT ROWID""",
        "CREATE INDEX request_time ON request (time)",
        """CREATE TABLE outbox (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            kind TEXT NOT NULL,
            key TEXT NOT NULL,
            payload BLOB NOT NULL,
            due REAL NOT NULL,
            tries INTEGER NOT NULL DEFAULT 0,
            problem TEXT NOT NULL DEFAULT '',           -- of the last try
            UNIQUE (kind, key)
        )""",
        "CREATE INDEX outbox_due ON outbox (due, number)",
    ),
    # Version 2: how many jobs an owner has in a state, without walking over them.
    (
        """CREATE TABLE tally (
            owner TEXT NOT NULL,
            state INTEGER NOT NULL,
            jobs INTEGER NOT NULL,
            PRIMARY KEY (owner, state)
        ) WITHOUT ROWID""",
        "INSERT INTO tally SELECT owner, state, count(*) FROM job GROUP BY owner, state",
        """CREATE TRIGGER job_comes AFTER INSERT ON job BEGIN
            INSERT INTO tally VALUES (new.owner, new.state, 1) ON CONFLICT DO UPDATE SET jobs = jobs + 1;
        END""",
        """CREATE TRIGGER job_moves AFTER UPDATE OF state ON job WHEN old.state != new.state BEGIN
            UPDATE tally SET jobs = jobs - 1 WHERE owner = old.owner AND state = old.state;
            INSERT INTO tally VALUES (new.owner, new.state, 1) ON CONFLICT DO UPDATE SET jobs = jobs + 1;
        END""",
        """CREATE TRIGGER job_goes AFTER DELETE ON job BEGIN
            UPDATE tally SET jobs = jobs - 1 WHERE owner = old.owner AND state = old.state;
        END""",
    ),
    # Version 3: the scenes of jobs, which were files before; nobody asks for the events of an owner.
    (
        """CREATE TABLE admitted (
            job INTEGER PRIMARY KEY REFERENCES job (number) ON DELETE CASCADE,
            scene BLOB NOT NULL                         -- text, compressed by zlib
        )""",
        "DROP INDEX event_owner",
    ),
)
"""What makes each version of the one before it; a version that was released is never changed."""


def connect(path: Path) -> sqlite3.Connection:
    """A connection for use by one thread at a time, in autocommit: transactions are begun by their statements."""
    connection = sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA temp_store = MEMORY")  # else each page of a savepoint goes to a file on the side first
    return connection


def open_file(path: Path, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> sqlite3.Connection:
    """Creates the file for its owner alone, or opens and upgrades it; UserError when it cannot be used."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = connect(path)
        try:
            _check(connection, path, len(migrations))
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA cache_size = -32000")  # KiB: the indexes of 100,000 jobs are written at random
            _upgrade(connection, migrations)
        except BaseException:
            connection.close()
            raise
    except OSError as problem:
        raise UserError(f"{path} cannot be written: {problem.strerror}") from problem
    except sqlite3.Error as problem:
        raise UserError(f"{path} cannot be used as the controller's store: {problem}") from problem
    return connection


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])


def _check(connection: sqlite3.Connection, path: Path, newest: int) -> None:
    application, version = _number(connection, "application_id"), _number(connection, "user_version")
    empty = connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is None
    if application != APPLICATION and not (empty and version == 0):
        raise UserError(f"{path} is not a controller's store, but another program's SQLite file")
    if version > newest:
        raise UserError(
            f"{path} was written by a newer DeepGen (schema {version}; this one knows {newest}): start that one"
        )


def _upgrade(connection: sqlite3.Connection, migrations: Sequence[Sequence[str]]) -> None:
    """All or nothing: a process that is killed on the way leaves the file as it was."""
    if _number(connection, "user_version") == len(migrations):
        return
    connection.execute("BEGIN IMMEDIATE")
    for migration in migrations[_number(connection, "user_version") :]:
        for statement in migration:
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {len(migrations)}")
    faults.point("schema.before_commit")
    connection.execute("COMMIT")
    faults.point("schema.after_commit")
