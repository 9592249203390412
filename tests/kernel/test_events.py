"""The event stream: what is written, numbered, taken up again and read."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path

import pytest

from deepgen.kernel.events import FILE, EventReader, EventStream, Silent, read_events
from deepgen.v1.event_pb2 import Event


def _all_kinds(events: EventStream, folder: Path) -> None:
    events.started(
        scene="sentiment",
        ranks=2,
        device="cpu",
        dtype="bfloat16",
        zero_stage=1,
        output_dir=folder,
        resumed_step=30,
        parameters={"learning_rate": 2e-5, "eval_metrics": ("auc", "acc")},
    )
    events.data_set("train", path="train.tsv", rows=800, digest="abc", bad_rows=1)
    events.stage("features", total=800, unit="rows", detail="train")
    events.progress("features", 400, 800, rows_per_second=1000, seconds_left=0.4)
    events.scored("eval", {"eval_auc": 0.95, "eval_loss": math.nan}, step=10, epoch=0.5, best=True, seconds=1.5)
    events.saved("checkpoint", folder / "checkpoints" / "step-10", step=10)
    events.notice("two words\nand a line", warning=True)
    events.predicted(folder / "result.tsv", rows=10, rows_per_second=5)
    events.finished("succeeded", seconds=12.5)


def test_every_kind_is_written_as_one_json_line_and_read_back(tmp_path: Path) -> None:
    seen: list[Event] = []
    events = EventStream(tmp_path)
    events.subscribe(seen.append)
    _all_kinds(events, tmp_path)
    events.close()

    lines = (tmp_path / FILE).read_text().splitlines()
    assert [json.loads(line)["sequence"] for line in lines] == [str(n) for n in range(1, 10)]
    read = list(read_events(tmp_path / FILE))
    assert [str(event) for event in read] == [str(event) for event in seen]
    assert [event.WhichOneof("body") for event in read] == [
        *("started", "data_set", "stage", "progress", "scored", "saved", "notice", "predicted", "finished")
    ]
    assert read[0].started.parameters["eval_metrics"] == "('auc', 'acc')"
    assert read[1].data_set.rows == 800
    assert math.isnan(read[4].scored.scores["eval_loss"])
    assert read[5].saved.what == Event.Saved.CHECKPOINT
    assert read[6].notice.text == "two words\nand a line"
    assert read[8].finished.state == Event.Finished.SUCCEEDED


def test_each_line_is_on_disk_when_the_call_returns(tmp_path: Path) -> None:
    events = EventStream(tmp_path)
    events.notice("now")
    assert [event.notice.text for event in read_events(tmp_path / FILE)] == ["now"]


def test_numbers_go_on_over_attempts(tmp_path: Path) -> None:
    for _ in range(3):
        events = EventStream(tmp_path)
        events.notice("one")
        events.notice("two")
        events.close()
    assert [event.sequence for event in read_events(tmp_path / FILE)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("torn", [b'{"sequence": "9", "noti', b"\x00\x00\x00"])
def test_a_line_cut_short_by_a_kill_is_taken_off(tmp_path: Path, torn: bytes) -> None:
    EventStream(tmp_path).notice("one")
    with (tmp_path / FILE).open("ab") as file:
        file.write(torn)
    EventStream(tmp_path).notice("two")
    assert [(e.sequence, e.notice.text) for e in read_events(tmp_path / FILE)] == [(1, "one"), (2, "two")]


def test_a_spoilt_line_is_passed_over(tmp_path: Path) -> None:
    EventStream(tmp_path).notice("one")
    with (tmp_path / FILE).open("ab") as file:
        file.write(b"\xff\xfe not json\n")
    EventStream(tmp_path).notice("two")
    assert [event.sequence for event in read_events(tmp_path / FILE)] == [1, 2]


def test_progress_is_thinned_but_values_and_the_end_are_kept(tmp_path: Path) -> None:
    events = EventStream(tmp_path)
    events.stage("train", total=100, unit="steps")
    for step in range(1, 101):
        values = {"loss": 1 / step} if step % 20 == 0 else None
        events.progress("train", step, 100, step=step, values=values)
    done = [event.progress.done for event in read_events(tmp_path / FILE) if event.HasField("progress")]
    assert done == [1, 20, 40, 60, 80, 100]


def test_a_counter_tells_speed_and_time_left(tmp_path: Path) -> None:
    events = EventStream(tmp_path)
    count = events.counter("features")
    count(50, 100)
    (event,) = read_events(tmp_path / FILE)
    assert event.progress.rows_per_second > 0
    assert event.progress.seconds_left == pytest.approx(50 / event.progress.rows_per_second)


def test_threads_share_one_sequence(tmp_path: Path) -> None:
    events = EventStream(tmp_path)

    def speak() -> None:
        for _ in range(50):
            events.notice("x")

    threads = [threading.Thread(target=speak) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [event.sequence for event in read_events(tmp_path / FILE)] == list(range(1, 201))


def test_a_silent_stream_takes_every_call(tmp_path: Path) -> None:
    events = Silent()
    events.subscribe(lambda event: pytest.fail("silent"))
    _all_kinds(events, tmp_path)
    events.close()
    assert list(tmp_path.iterdir()) == []


def test_a_reader_gives_what_is_new_and_waits_for_whole_lines(tmp_path: Path) -> None:
    reader = EventReader(tmp_path / FILE)
    assert list(reader.read()) == []
    events = EventStream(tmp_path)
    events.notice("one")
    assert [event.notice.text for event in reader.read()] == ["one"]
    line = (tmp_path / FILE).read_bytes()
    with (tmp_path / FILE).open("ab") as file:
        file.write(line[:10])
        file.flush()
        assert list(reader.read()) == []
        file.write(line[10:])
    assert len(list(reader.read())) == 1
    assert list(reader.read()) == []


def test_following_yields_later_events(tmp_path: Path) -> None:
    events = EventStream(tmp_path)
    events.notice("one")
    following = read_events(tmp_path / FILE, follow=True, poll=0.01)
    assert next(following).notice.text == "one"
    threading.Timer(0.1, lambda: events.notice("two")).start()
    assert next(following).notice.text == "two"


def test_odd_bytes_in_a_path_do_not_stop_the_record(tmp_path: Path) -> None:
    EventStream(tmp_path).saved("model", "caf\udce9")
    assert [event.saved.path for event in read_events(tmp_path / FILE)] == ["caf?"]
