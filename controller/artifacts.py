"""The files of a run folder: their list, and their bytes from any offset with the checksum of the whole."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from deepgen.v1.controller_pb2 import Artifact, ArtifactChunk, ListArtifactsResponse, ReadArtifactRequest

from .feed import Feed
from .files import open_inside, parts_of, walk
from .refusals import Refusal, invalid

CHUNK = 256 << 10
MOST = 20_000
"""Files of a list; more do not fit into an answer."""


def list_artifacts(state: Path, run: Sequence[str]) -> ListArtifactsResponse:
    """Every regular file below the run folder, which is given by its parts; what a link leads to is left out."""
    answer = ListArtifactsResponse()
    for path, known in walk(state, run):
        if path == "log/lock":
            continue
        try:
            path.encode()
        except UnicodeEncodeError:  # a name that is no text
            continue
        if len(answer.artifacts) == MOST:
            raise Refusal("RESOURCE_EXHAUSTED", f"the run folder has more than {MOST} files", reason="TOO_MANY")
        artifact = Artifact(path=path, size=known.st_size)
        artifact.update_time.FromMicroseconds(known.st_mtime_ns // 1000)
        answer.artifacts.append(artifact)
    return answer


async def read_artifact(
    state: Path, run: Sequence[str], feed: Feed, request: ReadArtifactRequest
) -> AsyncIterator[ArtifactChunk]:
    """The file as long as it is now, from an offset on; what a run that goes on adds to it is left out.

    Raises:
        Refusal: INVALID_ARGUMENT, NOT_FOUND, OUT_OF_RANGE, or ABORTED for a file that was cut short meanwhile.
    """
    try:
        parts = parts_of(request.path)
    except ValueError as error:
        raise invalid("path", str(error)) from None
    try:
        file = await asyncio.to_thread(open_inside, state, [*run, *parts])
    except FileNotFoundError:
        text = f"there is no file {request.path} in the run folder of {request.parent}"
        raise Refusal("NOT_FOUND", text, fields=[("path", text)]) from None
    try:
        size = os.fstat(file).st_size
        if not 0 <= request.offset <= size:
            text = f"{request.path} has {size} bytes, and the offset is {request.offset}"
            raise Refusal("OUT_OF_RANGE", text, reason="BEHIND_END", facts={"size": str(size)})
        whole, place = hashlib.sha256(), 0
        while place < size:
            feed.check()
            data = await asyncio.to_thread(_next, file, place, size, whole)
            if not data:
                raise Refusal("ABORTED", f"{request.path} was cut short while it was read; read it again")
            if place + len(data) > request.offset:
                begin = max(0, request.offset - place)
                yield ArtifactChunk(offset=place + begin, data=data[begin:], size=size)
            place += len(data)
        yield ArtifactChunk(offset=size, sha256=whole.hexdigest(), size=size)
    finally:
        os.close(file)


def _next(file: int, place: int, size: int, whole: hashlib._Hash) -> bytes:
    data = os.pread(file, min(CHUNK, size - place), place)
    whole.update(data)
    return data
