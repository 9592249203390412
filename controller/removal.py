"""Takes the folder of a deleted job away: out of sight with the job's row, off the disk when there is time."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path

from .feed import Feed
from .jobs import ENDED, check_delete
from .launch import job_folder
from .store import Store, StoreUnavailable, Transaction

_ASIDE = ".deleted"
"""Folder of folders that are to be removed, each by the uid and the ID of its job."""


def delete(transaction: Transaction, state: Path, identity: str, actor: str, etag: str) -> Path | None:
    """The work that deletes an ended job. Its ID may be used again at once, so its folder is moved away with it.

    Gives the folder that is now to be removed; None when the job had none.
    """
    record = transaction.record(identity)
    check_delete(record, etag)
    transaction.delete_job(identity, actor)
    aside = state / _ASIDE / f"{record.job.uid}.{identity}"
    try:
        aside.parent.mkdir(mode=0o700, exist_ok=True)
        job_folder(state, identity).rename(aside)
    except FileNotFoundError:
        return aside if aside.exists() else None  # a work may be done twice
    return aside


def put_back(state: Path, aside: Path) -> None:
    """Undoes the move, when the deletion could not be kept."""
    identity = aside.name.partition(".")[2]
    if aside.exists() and not job_folder(state, identity).exists():
        aside.rename(job_folder(state, identity))


def remove(aside: Path) -> None:
    """Takes the bytes off the disk; what cannot be removed now is tried again at the next start."""
    shutil.rmtree(aside, ignore_errors=True)


def sweep(store: Store, state: Path) -> None:
    """At the start: ends deletions that a crash cut short, and undoes those that are not on record."""
    for aside in sorted((state / _ASIDE).glob("*.*")):
        uid, _, identity = aside.name.partition(".")
        with store.reader() as reader:
            job = reader.job(identity)
        if job is not None and job.uid == uid:
            put_back(state, aside)
        else:
            remove(aside)


class Removal:
    """Deletes jobs for the service."""

    def __init__(self, store: Store, state: Path, feed: Feed) -> None:
        self._store, self._state, self._feed = store, state, feed
        self._tasks: set[asyncio.Task[None]] = set()

    async def when_ended(self, identity: str, uid: str, actor: str) -> None:
        """Deletes a job as soon as it has ended, also when the caller no longer waits for it."""
        task = asyncio.create_task(self._later(identity, uid, actor))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # told to the caller, if there is one
        await asyncio.shield(task)

    async def delete(self, identity: str, actor: str, etag: str) -> None:
        """Deletes a job that has ended. Raises Refused, StoreUnavailable."""
        moved: list[Path] = []

        def work(transaction: Transaction) -> None:
            if (aside := delete(transaction, self._state, identity, actor, etag)) is not None:
                moved.append(aside)

        try:
            await asyncio.shield(asyncio.wrap_future(self._store.write(work)))
        except StoreUnavailable:
            for aside in moved:
                with contextlib.suppress(OSError):
                    put_back(self._state, aside)
            raise
        for aside in moved:
            await asyncio.to_thread(remove, aside)

    async def _later(self, identity: str, uid: str, actor: str) -> None:
        while True:
            change = self._feed.next()
            with self._store.reader() as reader:
                job = reader.job(identity)
            if job is None or job.uid != uid:
                return
            if job.state in ENDED:
                await self.delete(identity, actor, "")
                return
            await self._feed.wait(change, 60)
