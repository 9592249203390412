"""Turns a JobSpec into a checked scene: nothing in it may leave the folders that the server allows."""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
import tempfile
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from deepgen.v1.job_pb2 import JobSpec

from ..kernel.errors import UserError, did_you_mean
from .launch import SCENE
from .refusals import Refusal, invalid

if TYPE_CHECKING:
    from ..kernel.scene import Scene

T = TypeVar("T")
NAME = re.compile(r"(?!\.)[\w.-]{1,100}")
KEPT_SECONDS = 5.0
KEPT = 256
"""Verdicts that are kept, so that a thousand jobs alike are checked once."""
INLINE = "inline_scene"
"""What an inline scene is called in messages, in place of the file it was written to for a moment."""


@dataclass(frozen=True)
class Roots:
    """What the server allows; folders with all that is below them."""

    data: tuple[Path, ...] = ()
    """Where scenes, their data and models may be."""
    scenes: tuple[Path, ...] = ()
    """Where a scene is looked for by its name, besides those that come with DeepGen; may be read as `data`."""
    plugins: tuple[Path, ...] = ()
    """Where plugin files and programs may be; their code runs in the jobs."""
    endpoints: tuple[str, ...] = ()
    """Servers of plugins that jobs may ask."""

    def shelves(self) -> tuple[Path, ...]:
        """Where a scene is looked for by name; the first that has it gives it."""
        from ..kernel.sources import SCENES

        return (*self.scenes, SCENES)

    def readable(self) -> tuple[Path, ...]:
        """All that a scene may read, symlinks resolved: the samples that come with DeepGen are among it."""
        from ..kernel.sources import SCENES

        return tuple(path.resolve() for path in (*self.data, *self.shelves(), SCENES.parent / "sample"))


@dataclass(frozen=True)
class Admitted:
    """A scene that was checked."""

    name: str
    text: str
    """With every value, and nothing left that depends on where it is read: see kernel.record.resolved_text."""
    notes: tuple[str, ...] = ()

    @cached_property
    def packed(self) -> bytes:
        """The text as the store keeps it."""
        return zlib.compress(self.text.encode())


class Admission:
    """Checks specs, one at a time, in a thread of its own."""

    def __init__(self, roots: Roots, aside: Path | None = None) -> None:
        """Args:
        roots: what jobs may read.
        aside: a folder for scenes that came as text, while they are checked; emptied now of what a crash has left.
        """
        self.roots, self._aside = roots, aside
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(mode=0o700, parents=True)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="admission")
        self._kept: OrderedDict[bytes, tuple[float, asyncio.Future[Admitted]]] = OrderedDict()

    async def admit(self, spec: JobSpec) -> Admitted:
        """The scene of a spec.

        Raises:
            Refusal: INVALID_ARGUMENT with the field at fault, or PERMISSION_DENIED for what the server does not allow.
        """
        part = JobSpec(overrides=spec.overrides, ranks=spec.ranks)
        if spec.WhichOneof("source") == "inline_scene":
            part.inline_scene = spec.inline_scene
        else:
            part.scene = spec.scene
        key = hashlib.sha256(part.SerializeToString(deterministic=True)).digest()
        now = time.monotonic()
        then, verdict = self._kept.get(key, (0.0, None))
        if verdict is None or now > then + KEPT_SECONDS:
            verdict = asyncio.wrap_future(self._thread.submit(self.examine, part))
            self._kept[key] = (now, verdict)
            self._kept.move_to_end(key)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        try:
            return await asyncio.shield(verdict)  # several may wait for it; one that goes away takes nothing from them
        except UserError as error:
            raise error.with_traceback(None) from None  # it is raised again and again, and would grow

    def examine(self, spec: JobSpec) -> Admitted:
        """`admit` in the calling thread."""
        from ..kernel.record import resolved_text
        from . import apart

        with tempfile.TemporaryDirectory(prefix="deepgen-", dir=self._aside) as aside:
            found = Found.of(spec, self.roots, Path(aside))
            tokens = (*found.tokens, f"--num_ranks={spec.ranks or 1}")
            try:
                if found.plugins:
                    made = apart.examine(found.reference, tokens, found.plugins, self.roots)
                else:
                    scene = load_inside(found.reference, tokens, self.roots)
                    made = (scene.name, resolved_text(scene), _check(scene))
            except UserError as error:
                raise found.placed(error) from None
        name, text, notes = made
        return Admitted(name, found.cleaned(text), tuple(map(found.cleaned, notes)))

    def scene(self, name: str, overrides: dict[str, str]) -> Scene:
        """A named scene with its values, for the catalogue. It may name no plugin files. Raises like `admit`."""
        spec = JobSpec(scene=name, overrides=overrides)
        found = Found.of(spec, self.roots, Path())
        if found.plugins:
            raise invalid("name", f"scene '{name}' has plugin files of its own, and is not looked into here")
        try:
            return load_inside(found.reference, found.tokens, self.roots)
        except UserError as error:
            raise found.placed(error) from None

    async def in_turn(self, work: Callable[..., T], *arguments: Any) -> T:
        """Runs something else that imports plugins in the thread of the checks: one thing at a time."""
        return await asyncio.wrap_future(self._thread.submit(work, *arguments))

    def close(self) -> None:
        """Ends the thread after the check it is at."""
        self._thread.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class Found:
    """The scene file of a spec, its overrides as tokens, and the plugin files that both name."""

    reference: str
    tokens: tuple[str, ...]
    plugins: tuple[Path, ...]
    spec: JobSpec
    inline: Path | None

    @staticmethod
    def of(spec: JobSpec, roots: Roots, aside: Path) -> Found:
        """Finds the scene; refuses what can be told before any of it is used."""
        from ..kernel.settings import model_folder
        from ..kernel.sources import read_scene_file, read_tokens
        from .paths import check_own, check_relative, plugin_files

        inline = aside / SCENE if spec.WhichOneof("source") == "inline_scene" else None
        if inline is not None:
            inline.write_text(spec.inline_scene, encoding="utf-8")
        reference = str(inline) if inline is not None else str(find(spec.scene, roots))
        tokens = tuple(f"--{name}={value}" for name, value in spec.overrides.items())
        found = Found(reference, tokens, (), spec, inline)
        try:
            folder = None if inline is not None else model_folder(reference)
            file = reference if folder is None else str(folder / SCENE)
            written, overrides = read_scene_file(file)[1], read_tokens(tokens)
            check_own(overrides if folder is not None else [*written, *overrides])
            if inline is not None:
                check_relative(written)
            replaced = any(item.name == "plugin" for item in overrides)
            plugins = plugin_files(overrides if replaced else [*written, *overrides], roots)
        except UserError as error:
            raise found.placed(error) from None
        return Found(reference, tokens, plugins, spec, inline)

    def cleaned(self, text: str) -> str:
        """Without the name of a file of the moment."""
        from ..kernel.sources import shown_path

        if self.inline is not None:
            for shown in (str(self.inline), shown_path(self.inline), str(self.inline.parent)):
                text = text.replace(shown, INLINE)
        return text

    def placed(self, error: UserError) -> Refusal:
        """The error with the field of the request that it is about."""
        text = self.cleaned(str(error))
        named = re.match(r"--(\w+)", text)
        source = "inline_scene" if self.inline is not None else "scene"
        name = named[1] if named else ""
        field = f"job.spec.overrides[{name}]" if name in self.spec.overrides else f"job.spec.{source}"
        if name == "num_ranks" and name not in self.spec.overrides:  # we say it, for the ranks of the job
            field = "job.spec.ranks"
        if isinstance(error, Refusal):
            return Refusal(error.code, text, reason=error.reason, fields=[(field, text)], facts=error.facts)
        return invalid(field, text)


def find(name: str, roots: Roots) -> Path:
    """The scene file or model folder of a scene's name, or of an absolute path inside the allowed folders."""
    if NAME.fullmatch(name):
        for shelf in roots.shelves():
            if (file := shelf / f"{name}.yaml").is_file():
                return _inside(file, name, roots)
        known = sorted({file.stem for shelf in roots.shelves() for file in shelf.glob("*.yaml")})
        near = did_you_mean(name, known) or (f"; there are {', '.join(known[:50])}" if known else "")
        raise invalid("job.spec.scene", f"no scene is called '{name}' here{near}")
    if not Path(name).is_absolute():
        raise invalid("job.spec.scene", f"scene '{name[:200]}' is neither a name nor an absolute path on the server")
    return _inside(Path(name), name, roots)


def _inside(file: Path, name: str, roots: Roots) -> Path:
    from .paths import real

    path = real(file, roots.readable())
    if path is None:
        text = f"scene '{name[:200]}' is outside the folders that this server allows"
        raise Refusal("PERMISSION_DENIED", text, reason="OUTSIDE", fields=[("job.spec.scene", text)])
    return path


def load_inside(reference: str, tokens: Sequence[str], roots: Roots) -> Scene:
    """A scene that names nothing outside the allowed folders. Raises UserError."""
    from ..kernel.settings import load
    from .paths import check_inside

    scene = load(reference, tokens)
    check_inside(scene, roots.readable())
    return scene


def _check(scene: Scene) -> list[str]:
    from ..kernel.check import check

    return check(scene)
