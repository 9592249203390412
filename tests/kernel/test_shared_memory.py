"""Memory that another process opens by its path: several pieces in one, and a descriptor that is closed once."""

import os
from pathlib import Path

import pytest

from deepgen.kernel.shared_memory import PAGE, Region
from deepgen.v1 import payload_pb2


def _seen(place: payload_pb2.SharedMemory) -> bytes:
    return Path(place.path).read_bytes()[place.offset : place.offset + place.length]


def test_pieces_stay_where_they_are_while_it_grows() -> None:
    region = Region()
    places = [region.write(bytes([number]) * (PAGE - 7), number * PAGE) for number in range(5)]
    assert [_seen(place) for place in places] == [bytes([number]) * (PAGE - 7) for number in range(5)]
    assert region.read(places[3]) == b"\3" * (PAGE - 7)


def test_nobody_can_cut_it_off() -> None:
    region = Region()
    place = region.write(b"memory")
    with pytest.raises(PermissionError), open(place.path, "w"):
        pass
    assert region.read(place) == b"memory"


def test_a_file_that_was_opened_since_stays_open() -> None:
    region = Region()
    region.write(b"memory")
    region.close()
    read, write = os.pipe()  # they get the numbers that are free
    del region
    os.write(write, b"there")
    assert os.read(read, 9) == b"there"
    os.close(read)
    os.close(write)
