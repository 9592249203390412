"""The store when it is killed, and on a disk that is busy, full, read-only or of another version."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from stored_jobs import a_job, held, submit

import deepgen.controller.store as store_module
from deepgen.controller import schema
from deepgen.controller.jobs import Refused
from deepgen.controller.store import Store, StoreUnavailable
from deepgen.controller.transaction import Transaction
from deepgen.kernel.errors import UserError
from deepgen.v1.controller_pb2 import JobEvent
from deepgen.v1.job_pb2 import Job

CHILD = Path(__file__).parents[1] / "stored_jobs.py"


def check(store: Store) -> set[str]:
    """The invariants of a store in which jobs were only submitted; the names of its jobs."""
    with store.reader() as reader:
        newest = reader.newest_sequence()
        events = reader.events(0, newest + 1)
        assert [event.sequence for event in events] == list(range(1, newest + 1)), "gaps"
        assert all(event.type == JobEvent.CREATED for event in events)
        for event in events:
            assert reader.job(event.job.name.removeprefix("jobs/")) == event.job, "row and event"
        sent = {item.key: item.payload for item in reader.outbox(1.0, newest + 1)}
        assert sent == {event.job.name: str(event.sequence).encode() for event in events}, "outbox and event"
        assert reader.count(None, Job.State.values()) == newest == len(list(reader.queued())), "tally and rows"
    for event in events:
        job = store.write(partial(Transaction.replay, request_id=event.job.uid, owner="ada", digest=b"digest")).result()
        assert job == event.job, "request and row"
    return {event.job.name for event in events}


def child(path: Path, fault: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "DEEPGEN_FAULT": fault}
    return subprocess.Popen([sys.executable, CHILD, path], env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("fault", "at_least"),
    [
        ("schema.before_commit", 0),
        ("schema.after_commit", 0),
        ("store.before_commit", 0),
        ("store.before_commit:4", 3),
        ("store.after_commit", 1),
        ("store.after_commit:4", 4),
    ],
)
def test_killed_at_a_point(tmp_path: Path, fault: str, at_least: int) -> None:
    path = tmp_path / "controller.db"
    process = child(path, fault)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    store = Store(path)
    kept = check(store)
    assert kept >= set(said.split()), "a job that was answered is lost"
    assert len(kept) >= at_least
    assert (len(kept) == 0) == (at_least == 0)
    store.write(partial(submit, job=a_job())).result()
    assert len(check(store)) == len(kept) + 1
    store.close()


def test_killed_anywhere(tmp_path: Path) -> None:
    path, said = tmp_path / "controller.db", set[str]()
    for pieces in (1, 40):
        process = child(path, "")
        assert process.stdout is not None
        said |= {process.stdout.readline().strip() for _ in range(pieces)}
        process.kill()
        said |= {line.strip() for line in process.stdout if line.endswith("\n")}
        process.wait()
        process.stdout.close()
    store = Store(path)
    assert check(store) >= said
    store.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "controller.db", patience=0.0)
    yield opened
    opened.close()


def insert(store: Store, size: int = 0) -> Job:
    job = a_job()
    job.spec.inline_scene = "x" * size
    return store.write(partial(submit, job=job)).result()


def fails_and_recovers(store: Store, mend: contextlib.ExitStack, said: str, size: int = 1 << 20) -> None:
    """Nothing is written, reads go on, and all is well after `mend`."""
    with pytest.raises(StoreUnavailable, match=said):
        insert(store, size)
    with store.reader() as reader:
        assert reader.newest_sequence() == 1
    mend.close()
    insert(store)
    assert len(check(store)) == 2


def test_a_write_waits_while_another_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "BUSY", 0.01)
    store = Store(tmp_path / "controller.db")
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    future = store.write(partial(submit, job=a_job()))
    with store.reader() as reader:
        assert reader.newest_sequence() == 0
    assert not future.done()
    other.execute("COMMIT")
    assert future.result(30).sequence == 1
    other.close()
    store.close()


def test_a_lock_that_is_not_let_go_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "BUSY", 0.01)
    store = Store(tmp_path / "controller.db", patience=0.0)
    insert(store)
    with contextlib.ExitStack() as mend:
        other = sqlite3.connect(store.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        mend.callback(other.close)
        fails_and_recovers(store, mend, "database is locked", 0)
    store.close()


def test_a_full_database(store: Store) -> None:
    insert(store)
    with contextlib.ExitStack() as mend:
        limit = "PRAGMA max_page_count = {}"
        store.write(lambda tx: tx._connection.execute(limit.format(60)).fetchall()).result()
        mend.callback(lambda: store.write(lambda tx: tx._connection.execute(limit.format(1 << 30)).fetchall()).result())
        fails_and_recovers(store, mend, "full")


def test_all_works_of_a_commit_that_fails_are_undone_and_told(store: Store) -> None:
    insert(store)
    store.write(lambda tx: tx._connection.execute("PRAGMA max_page_count = 60").fetchall()).result()
    large = a_job()
    large.spec.inline_scene = "x" * (1 << 20)
    with held(store):
        futures = [store.write(partial(submit, job=job)) for job in (a_job(), large, a_job())]
    for future in futures:
        with pytest.raises(StoreUnavailable, match="full"):
            future.result()
    assert len(check(store)) == 1


def test_a_disk_that_takes_no_more(store: Store) -> None:
    """The limit on the size of a file stands for a failing disk: SQLite gets an error from write()."""
    insert(store)
    with contextlib.ExitStack() as mend:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
        mend.callback(resource.setrlimit, resource.RLIMIT_FSIZE, before)
        fails_and_recovers(store, mend, "cannot be written: (disk I/O error|database or disk is full)")


def test_a_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")
    with contextlib.ExitStack() as after:
        after.callback(lambda: subprocess.run(["umount", disk], check=True))
        store = Store(disk / "controller.db")
        after.callback(store.close)
        insert(store)
        with contextlib.ExitStack() as mend:
            filler = (disk / "filler").open("wb", buffering=0)
            mend.callback((disk / "filler").unlink)
            mend.callback(filler.close)
            with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
                filler.writelines(bytes(4096) for _ in range(1024))
            fails_and_recovers(store, mend, "full", 100_000)


@pytest.mark.parametrize("what", ["the file", "the folder"])
def test_a_place_that_is_read_only(tmp_path: Path, what: str) -> None:
    """As a user without root's rights: a child that gives them up."""
    folder = tmp_path / "state"
    path = folder / "controller.db"
    Store(path).close()
    (path if what == "the file" else folder).chmod(0o444 if what == "the file" else 0o555)
    if what == "the folder":
        path.with_name("controller.db.lock").unlink()
    else:
        path.with_name("controller.db.lock").chmod(0o666)
        folder.chmod(0o777)
    program = f"""if True:
        import os, sys
        from pathlib import Path
        from deepgen.controller.store import Store
        from deepgen.kernel.errors import UserError
        os.chdir({str(folder)!r})
        if not os.geteuid():
            os.setuid(65534)
        try:
            Store(Path("controller.db"))
        except UserError as problem:
            print(problem)
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    name = "controller.db" if what == "the file" else "controller.db.lock"
    assert done.stdout == f"{name} cannot be written: Permission denied\n"


def test_a_file_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "controller.db"
    Store(path).close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(UserError, match=rf"newer DeepGen \(schema 99; this one knows {len(schema.MIGRATIONS)}\)"):
        Store(path)
    assert path.read_bytes() == before


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "controller.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    with pytest.raises(UserError, match="another program's"):
        Store(path)
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(UserError, match="not a database"):
        Store(path)
    with pytest.raises(UserError, match="cannot be written"):
        Store(path / "below" / "controller.db")


def of_version_1(path: Path) -> list[Job]:
    """A file as version 1 left it, with some jobs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
        patch.setattr(store_module, "open_file", partial(schema.open_file, migrations=schema.MIGRATIONS))
        store = Store(path)
        kept = [insert(store) for _ in range(3)]
        store.close()
    return kept


def test_an_upgrade_keeps_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "controller.db"
    kept = of_version_1(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        with pytest.raises(sqlite3.OperationalError, match="no such table: tally"):
            connection.execute("SELECT * FROM tally")
    store = Store(path)
    assert check(store) == {job.name for job in kept}
    insert(store)
    assert len(check(store)) == 4
    store.close()


@pytest.mark.parametrize("fault", ["schema.before_commit", "schema.after_commit"])
def test_killed_in_an_upgrade(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "controller.db"
    kept = of_version_1(path)
    process = child(path, fault)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (
            1 if "before" in fault else len(schema.MIGRATIONS),
        )
    store = Store(path)
    assert check(store) == {job.name for job in kept}
    store.close()


def test_a_refusal_in_a_work_is_not_the_files_fault(store: Store) -> None:
    insert(store)
    with pytest.raises(Refused):
        store.write(lambda tx: tx.delete_job("other", "ada")).result()
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        store.write(lambda tx: tx._connection.execute("SELECT * FROM recipes")).result()
    assert len(check(store)) == 1
