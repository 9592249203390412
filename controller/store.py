"""The controller's memory: a SQLite file that one thread writes, many works in one commit, and any thread reads.

    job = store.write(lambda transaction: transaction.insert_job(job, "ada")).result()
    with store.reader() as reader: reader.job("sentiment-x7k2m")

What a future has given is on the disk: the file is in WAL mode with synchronous=FULL.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from ..kernel.errors import DeepgenError, UserError
from . import faults
from .reading import Reader
from .schema import connect, open_file
from .transaction import Transaction

__all__ = ["Reader", "Store", "StoreUnavailable", "Transaction"]
T = TypeVar("T")
_LOG = logging.getLogger(__name__)
AT_ONCE = 256
"""Works in one commit at most."""
READERS = 8
"""Connections that are kept for reading; more are opened when more threads read at once."""
PATIENCE = 30.0
"""Seconds that a write waits for another process to let go of the file."""
_OF_THE_FILE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
}
"""Errors that concern all works of a commit, not only the one that met them."""


class StoreUnavailable(DeepgenError):
    """The file cannot be read or written now: a full or failing disk, or a lock of another process; try again."""


class _Work:
    def __init__(self, work: Callable[[Transaction], Any]) -> None:
        self.work, self.future = work, Future[Any]()
        self.result: Any = None
        self.problem: BaseException | None = None


class Store:
    """Opens or creates the file; UserError when it cannot be used, or another controller uses it."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time, patience: float = PATIENCE) -> None:
        self.path, self._clock, self._patience = path, clock, patience
        self._lock = _lock(path)
        try:
            self._writer = open_file(path)
        except BaseException:
            os.close(self._lock)
            raise
        self._newest = Reader(self._writer).newest_sequence()
        self._works: SimpleQueue[_Work | None] = SimpleQueue()
        self._listeners: list[Callable[[int], object]] = []
        self._idle: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    def write(self, work: Callable[[Transaction], T]) -> Future[T]:
        """Runs `work` in the writer's thread; the future is resolved when what it wrote is on the disk.

        Works run in the order of their calls. An exception of a work undoes that work alone, and is the future's.
        The future fails with StoreUnavailable when the file cannot be written: then nothing of the work is there, and
        the next write tries again. A work must not wait for anything, and has no effect but by its transaction: it may
        be done twice, when another work of the same commit has failed.
        """
        entry = _Work(work)
        with self._guard:
            if self._closed:
                raise StoreUnavailable(f"{self.path} is closed")
            self._works.put(entry)
        return entry.future

    @contextlib.contextmanager
    def reader(self) -> Iterator[Reader]:
        """A snapshot of the store as it is at the first read; to be left soon, as the WAL grows meanwhile."""
        with self._guard:
            if self._closed:
                raise StoreUnavailable(f"{self.path} is closed")
            connection = self._idle.pop() if self._idle else None
        try:
            if connection is None:
                connection = connect(self.path)
                connection.execute("PRAGMA query_only = ON")
            connection.execute("BEGIN")
            try:
                yield Reader(connection)
            finally:
                connection.execute("ROLLBACK")
        except sqlite3.Error as problem:
            if connection is not None:
                connection.close()
                connection = None
            raise StoreUnavailable(f"{self.path} cannot be read: {problem}") from problem
        finally:
            with self._guard:
                if connection is not None and not self._closed and len(self._idle) < READERS:
                    self._idle.append(connection)
                    connection = None
            if connection is not None:
                connection.close()

    def listen(self, callback: Callable[[int], object]) -> Callable[[], None]:
        """Calls `callback` in the writer's thread after each commit with events, with the newest sequence number.

        It must be quick. Gives what undoes it.
        """
        with self._guard:
            self._listeners = [*self._listeners, callback]

        def undo() -> None:
            with self._guard:
                self._listeners = [each for each in self._listeners if each is not callback]

        return undo

    def close(self) -> None:
        """Does the works that wait, and closes the file; a second call does nothing."""
        with self._guard:
            closed, self._closed = self._closed, True
            if not closed:
                self._works.put(None)
        self._thread.join()
        with self._guard:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        if not closed:
            self._writer.close()
            os.close(self._lock)

    def _run(self) -> None:
        last = False
        while not last:
            entries = [self._works.get()]
            with contextlib.suppress(Empty):
                while len(entries) < AT_ONCE:
                    entries.append(self._works.get_nowait())
            last = None in entries
            # A client may have given up waiting; one that has not cannot do so from here on.
            works = [entry for entry in entries if entry is not None and entry.future.set_running_or_notify_cancel()]
            if works:
                self._commit(works)

    def _commit(self, works: list[_Work]) -> None:
        try:
            self._begin()
            newest = self._do(works)
            faults.point("store.before_commit")
            self._writer.execute("COMMIT")
        except sqlite3.Error as problem:
            with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back by itself
                self._writer.execute("ROLLBACK")
            _LOG.error("%s cannot be written: %s", self.path, problem)
            for each in works:
                error = StoreUnavailable(f"{self.path} cannot be written: {problem}")
                error.__cause__ = problem
                each.future.set_exception(error)
            return
        faults.point("store.after_commit")
        for each in works:
            if each.problem is None:
                each.future.set_result(each.result)
            else:
                each.future.set_exception(each.problem)
        if newest != self._newest:
            self._newest = newest
            for callback in self._listeners:
                try:
                    callback(newest)
                except Exception:
                    _LOG.exception("a listener of the store failed")

    def _begin(self) -> None:
        """Takes the lock for writing; SQLite itself waits for schema.BUSY seconds each time."""
        until = time.monotonic() + self._patience
        while True:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as problem:
                busy = problem.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or self._closed or time.monotonic() > until:
                    raise

    def _do(self, works: list[_Work]) -> int:
        """Does all works in the open transaction; gives the newest sequence number."""
        transaction = Transaction(self._writer, self._clock)
        if not all(self._try(each, transaction) for each in works):
            # Rare: one has failed after it wrote. All are done again, each so that it can be undone alone.
            self._writer.execute("ROLLBACK")
            self._begin()
            transaction = Transaction(self._writer, self._clock)
            for each in works:
                self._writer.execute("SAVEPOINT work")
                if not self._try(each, transaction):
                    self._writer.execute("ROLLBACK TO work")
                transaction.flush()
                self._writer.execute("RELEASE work")
        transaction.flush()
        return transaction.newest_sequence()

    def _try(self, entry: _Work, transaction: Transaction) -> bool:
        """Does a work; False when it has failed, and something of it is there."""
        mark = transaction.mark()
        entry.result, entry.problem = None, None
        try:
            entry.result = entry.work(transaction)
        except BaseException as problem:  # also a SystemExit: the writer must go on
            of_the_file = isinstance(problem, sqlite3.Error) and (
                getattr(problem, "sqlite_errorcode", 0) & 0xFF in _OF_THE_FILE or not self._writer.in_transaction
            )
            if of_the_file:
                raise
            entry.problem = problem
            return transaction.undo(mark)
        return True


def _lock(path: Path) -> int:
    """A descriptor that holds PATH.lock, with this process's ID in it, until it is closed or the process ends."""
    lock = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        raise UserError(f"{lock} cannot be written: {problem.strerror}") from problem
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 20).decode(errors="replace").strip()
        os.close(descriptor)
        raise UserError(f"{path} is used by another controller (process {holder or 'unknown'})") from None
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except OSError:
        pass  # a full disk: the lock holds without its text
    return descriptor
