"""Model classes of one's own: `register_model` gives a task one, for all checkpoints or for those of a config class.

    @register_model("seq2label", "BertConfig")
    def mean_pooling():
        from transformers import BertPreTrainedModel

        class MeanPooling(BertPreTrainedModel): ...

        return MeanPooling

docs/extending.md has whole examples. In a package the entry point is `architecture.TASK` or `architecture.TASK.CONFIG`.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar

from .errors import PluginError, did_you_mean
from .hugging_face import quiet_transformers
from .offers import blame, offers

Registered = TypeVar("Registered", bound="Callable[..., Any]")


@dataclass(frozen=True, eq=False)
class Architecture:
    """What `register_model` was told."""

    task: str
    config_name: str
    """Such as `BertConfig`; empty: every architecture of the task."""
    module: Any
    """A class, or a function that gives it; `config` and `tokenizer` may also be names, or None."""
    config: Any
    tokenizer: Any
    place: str
    """FILE:LINE, or the entry point."""

    @property
    def key(self) -> str:
        """`TASK`, or `TASK.CONFIG`."""
        return f"{self.task}.{self.config_name}".rstrip(".")

    @property
    def version(self) -> str:
        """Changes with the file that registers it."""
        file = Path(getattr(sys.modules.get(self.module.__module__), "__file__", None) or "")
        return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else self.place


@dataclass(frozen=True)
class Own:
    """The classes of a registered architecture."""

    module: Any
    config: Any
    tokenizer: Any
    """None: what the checkpoint names."""
    place: str


_registered: dict[str, Architecture] = {}
"""By key."""


def register_model(
    task: str, architecture: str | type | None = None, *, config: Any = None, tokenizer: Any = None
) -> Callable[[Registered], Registered]:
    """Lets a task build a model class of one's own, a `PreTrainedModel`, instead of that of a Transformers auto class.

    It decorates the class, or a function that imports torch and gives the class, so that `deepgen check` stays quick.

    Args:
        task: the model plugin, such as seq2label.
        architecture: only for checkpoints of this config class: `BertConfig`, `Bert`, or the class; by default for all.
        config: the config class, by default the model's `config_class`. As the tokenizer class it is a class, the name
            of one in Transformers, or a function that gives it.
        tokenizer: the tokenizer class, by default what the checkpoint names.

    Raises:
        PluginError: the task has one for this config class already.
    """
    frame = sys._getframe(1)
    place = f"{frame.f_code.co_filename}:{frame.f_lineno}"

    def register(module: Registered) -> Registered:
        given: Any = module
        if not isinstance(given, type | FunctionType):
            raise PluginError(
                f"{place}: register_model decorates a class, or a function that gives one, not {module!r}"
            )
        _add(Architecture(task, _config_name(architecture), given, config, tokenizer, place))
        return module

    return register


def _config_name(architecture: str | type | None) -> str:
    if isinstance(architecture, type):
        architecture = getattr(architecture, "config_class", architecture).__name__
    return f"{architecture.removesuffix('Config')}Config" if architecture else ""


def _add(made: Architecture) -> None:
    known = _registered.get(made.key)
    if known is not None and _name(known.module) != _name(made.module):
        raise _twice(made.key, known.place, made.place)
    _registered[made.key] = made


def _name(thing: Any) -> tuple[str, str]:
    return thing.__module__, thing.__qualname__


def _twice(key: str, one: str, other: str) -> PluginError:
    task, _, name = key.partition(".")
    what = f"{name} in task '{task}'" if name else f"task '{task}'"
    return PluginError(f"the model class for {what} is registered twice: in {one} and in {other}")


def registered_by(module: str) -> list[Architecture]:
    """What a module of that name has registered."""
    return [made for made in _registered.values() if made.module.__module__ == module]


def forget(module: str) -> None:
    """Takes back what a module has registered."""
    for made in registered_by(module):
        del _registered[made.key]


def places(task: str) -> dict[str, str]:
    """Where those of a task are registered, by key; imports nothing.

    Raises:
        PluginError: one is registered twice.
    """
    found = {key: made.place for key, made in _registered.items() if made.task == task}
    for point, key in _points(task):
        place = f"entry point {point.name} = {point.value}"
        # the module of an entry point may have been imported, and have used the decorator
        if key in found and (key not in _registered or _registered[key].module.__module__ != point.module):
            raise _twice(key, found[key], place)
        found[key] = place
    return found


def check_tasks(known: Iterable[str]) -> None:
    """Refuses what is registered for a task that there is not.

    Raises:
        PluginError: with its place.
    """
    for made in _registered.values():
        if made.task not in known:
            raise PluginError(f"{made.place}: no task is called '{made.task}'{did_you_mean(made.task, known)}")


def _points(task: str) -> list[tuple[EntryPoint, str]]:
    """The entry points of a task with their keys."""
    points = [*offers("architecture", task), *offers(f"architecture.{task}")]
    names = [_config_name(point.name.removeprefix(f"architecture.{task}").removeprefix(".")) for point in points]
    return [(point, f"{task}.{name}".rstrip(".")) for point, name in zip(points, names, strict=True)]


def of_task(task: str) -> list[Architecture]:
    """What is registered for a task; imports what entry points name.

    Raises:
        PluginError: one is registered twice, or an entry point cannot be imported.
    """
    known = places(task)
    for point, key in _points(task):
        try:
            module = point.load()
        except (Exception, SystemExit) as error:
            raise PluginError(f"{known[key]} cannot be imported: {blame(error, Path())}") from error
        if key not in _registered:
            _add(Architecture(task, key.partition(".")[2], module, None, None, known[key]))
    return [made for made in _registered.values() if made.task == task]


def find(task: str, model_type: str) -> Own | None:
    """The classes for a checkpoint of that `model_type`; None where Transformers' own are to be used.

    Raises:
        PluginError: what is registered for the task cannot be used, or names a config class that there is not.
    """
    registered = of_task(task)
    if not registered:
        return None
    quiet_transformers()
    from transformers.models.auto import configuration_auto

    names: Any = configuration_auto.CONFIG_MAPPING_NAMES  # pyright: ignore[reportPrivateImportUsage]
    known = names.get(model_type)
    general = None
    for one in registered:
        if not one.config_name:
            general = one
        elif one.config_name == known:
            return classes(one)
        elif one.config_name not in names.values() or known is None:
            own = classes(one)
            _check_name(one, own, set(names.values()), names)
            if own.config.model_type == model_type:
                return own
    if general is None:
        return None
    own = classes(general)
    if general.config is None and own.config.model_type != model_type:
        if known is None:
            return None
        # it takes any config: that of the checkpoint
        return Own(own.module, getattr(quiet_transformers(), known), own.tokenizer, own.place)
    return own


def _check_name(one: Architecture, own: Own, known: set[str], names: Any) -> None:
    """Refuses the name of a config class that is neither Transformers' nor the model's own."""
    if one.config_name in known:
        return
    if own.config.__name__ != one.config_name:
        near = did_you_mean(one.config_name, known)
        raise PluginError(
            f"{one.place}: '{one.config_name}' is no config class of Transformers, and that of "
            f"{own.module.__name__} is {own.config.__name__}{near}"
        )
    if own.config.model_type in ("", *names):
        raise PluginError(
            f"{one.place}: {one.config_name} needs a model_type of its own; it has '{own.config.model_type}'"
        )


@cache
def classes(one: Architecture) -> Own:
    """The classes themselves, which imports torch.

    Raises:
        PluginError: one is no class, or none of Transformers' kind.
    """
    transformers = quiet_transformers()
    module = _class(one, "model", one.module)
    if not issubclass(module, transformers.PreTrainedModel):
        raise PluginError(f"{one.place}: {module.__name__} is no PreTrainedModel, so its weights cannot be loaded")
    config = _class(one, "config", one.config) or module.config_class
    if config is None:
        raise PluginError(f"{one.place}: {module.__name__} has no config_class; set it, or give config=…")
    return Own(module, config, _class(one, "tokenizer", one.tokenizer), one.place)


def _class(one: Architecture, what: str, given: Any) -> Any:
    """A class that was given as itself, by its name in Transformers, or by a function."""
    if isinstance(given, str):
        if not isinstance(found := getattr(quiet_transformers(), given, None), type):
            near = did_you_mean(given, dir(quiet_transformers()))
            raise PluginError(f"{one.place}: the {what} '{given}' is no class of Transformers{near}")
        return found
    if given is None or isinstance(given, type):
        return given
    try:
        made = given()
    except (Exception, SystemExit) as error:
        file = Path(given.__code__.co_filename) if hasattr(given, "__code__") else Path()
        raise PluginError(f"{one.place}: the {what} cannot be made: {blame(error, file)}") from error
    if not isinstance(made, type):
        raise PluginError(f"{one.place}: the function gives {made!r}, which is no {what} class; let it return one")
    return made
