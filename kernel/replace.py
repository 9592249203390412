"""Swaps a class or function of another library for one's own, says what it reached and what not, and undoes it.

    with replace("transformers.models.bert.modeling_bert.BertSelfAttention", Mine) as done:
        print(done)                # what was touched, and what still has the old one

    @replace("some.module.function")
    def function(text): ...        # from here on, in this process

The original stays at hand as `NEW.__replaced__`; `active()` gives what is in force. docs/extending.md tells more.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType, TracebackType
from typing import Any, TypeVar

from .errors import PluginError, did_you_mean
from .holders import above, inside, namespaces, unreached

New = TypeVar("New", bound="Callable[..., Any]")
DEEPEST = 5
"""Containers within containers that are looked into."""
_lock = threading.RLock()
_active: list[Replacement] = []


def replace(target: Any, new: Any = None) -> Replacement:
    """Puts `new` in the place of `target` wherever a module, a class or something that they hold has it.

    Args:
        target: the class or function itself, or its dotted name; `package.module.Class.method` works too.
        new: what comes in its place. Without it, what is given back is a decorator for it.

    Raises:
        PluginError: there is no such thing, it is neither class nor function, or nothing that can be reached has it.
    """
    name, old = _resolve(target) if isinstance(target, str) else (_name(target), target)
    if not callable(old) and not isinstance(old, staticmethod | classmethod):
        raise PluginError(f"replace: {name} is a {type(old).__name__}; only a class or a function can be replaced")
    made = Replacement(name, old)
    if new is not None:
        made(new)
    return made


def active() -> tuple[Replacement, ...]:
    """The replacements that are in force, the oldest first."""
    return tuple(_active)


@dataclass(eq=False)
class _Slot:
    """One place: an attribute of a module, class, object or function, or an item of a dict or list."""

    where: str
    owner: Any
    key: Any
    before: Any = None
    after: Any = None

    @property
    def identity(self) -> tuple[int, str]:
        """The same for the same place."""
        return id(self.owner), repr(self.key)

    def read(self) -> Any:
        """What is there now."""
        if isinstance(self.owner, dict):
            return dict.get(self.owner, self.key)  # whatever a subclass makes of it
        if isinstance(self.owner, list):
            return self.owner[self.key] if self.key < len(self.owner) else None
        if isinstance(self.owner, type) and self.key != "__bases__":
            return vars(self.owner).get(self.key)  # without binding it
        return getattr(self.owner, self.key)

    def write(self, value: Any) -> None:
        """Puts something there."""
        if isinstance(self.owner, dict):
            dict.__setitem__(self.owner, self.key, value)
        elif isinstance(self.owner, list):
            list.__setitem__(self.owner, self.key, value)
        else:
            (type if isinstance(self.owner, type) else object).__setattr__(self.owner, self.key, value)


@dataclass(eq=False)
class Replacement:
    """One replacement: a decorator as long as it has no `new`, then a context manager that undoes it at the end."""

    name: str
    old: Any
    new: Any = None
    missed: list[str] = field(default_factory=list)
    """What still has the old one, or why it will be seen."""
    _slots: list[_Slot] = field(default_factory=list)
    _tag: Any = None

    @property
    def touched(self) -> list[str]:
        """The places that were changed, by name."""
        return [slot.where for slot in self._slots]

    def __str__(self) -> str:
        lines = [f"{self.name} is replaced by {_name(self.new)}"]
        return "\n".join([*lines, *(f"  changed: {x}" for x in self.touched), *(f"  kept: {x}" for x in self.missed)])

    def __call__(self, new: New) -> New:
        """Replaces, and gives `new` back; `@replace("a.b")` calls it."""
        with _lock:
            if self.new is not None:
                raise PluginError(f"replace: {self.name} is replaced by {_name(self.new)} already; call replace again")
            for earlier in _active:
                self.old = earlier.new if earlier.old is self.old else self.old
            given: Any = new  # what follows is no narrower type of what is given back
            if isinstance(self.old, type) and not isinstance(given, type):
                raise PluginError(f"replace: {self.name} is a class, and {_name(new)} is none")
            wrap = type(self.old) if isinstance(self.old, staticmethod | classmethod) else None
            self.new = wrap(given) if wrap and not isinstance(given, wrap) else given
            if self.new is self.old:
                raise PluginError(f"replace: {self.name} would be replaced by itself")
            try:
                self._apply()
            except BaseException:
                self._restore()
                raise
            if not self._slots:
                self.new = None
                raise PluginError(f"replace: nothing that can be reached has {self.name}")
            _active.append(self)
            self._tag = getattr(_function(new), "__dict__", {}).get("__replaced__")
            _set_tag(new, self.old)
            self.missed += unreached(_function(self.old))
        return new

    def __enter__(self) -> Replacement:
        if self not in _active:
            raise PluginError(f"replace: there is nothing in the place of {self.name}; give replace the new one")
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self in _active:
            self.undo()

    def undo(self) -> None:
        """Puts the old one back into each place that still has what was put there.

        Raises:
            PluginError: it is not in force, or a later one has changed the same places and has to go first.
        """
        with _lock:
            if self not in _active:
                raise PluginError(f"replace: {self.name} is not replaced, or no longer")
            mine = {slot.identity for slot in self._slots}
            for later in _active[_active.index(self) + 1 :]:
                if mine & {slot.identity for slot in later._slots} or later.old is self.new:
                    raise PluginError(f"replace: undo {later.name} by {_name(later.new)} first; it came later")
            _active.remove(self)
            self._restore()
            self._sweep()
            _set_tag(self.new, self._tag)

    def _restore(self) -> None:
        for slot in reversed(self._slots):
            if slot.read() is slot.after:  # else somebody has put something else there since
                slot.write(slot.before)

    def _sweep(self) -> None:
        """Modules that were imported meanwhile have the new one under the old one's name."""
        known = {slot.identity for slot in self._slots}
        names = {slot.key for slot in self._slots if isinstance(slot.owner, dict) and slot.owner.get("__name__")}
        for _, namespace in namespaces():
            for name in names & namespace.keys():
                late = namespace[name] is self.new and (id(namespace), repr(name)) not in known
                if late and not self._is_home(namespace):
                    namespace[name] = self.old

    def _is_home(self, namespace: dict[str, Any]) -> bool:
        """Whether the new one is written in a module, and the old one is not: it may call the old one there."""
        home = getattr(_function(self.new), "__module__", None)
        return namespace.get("__name__") == home != getattr(_function(self.old), "__module__", None)

    def _apply(self) -> None:
        ways = above(self.old, 2 * DEEPEST)
        for name, namespace in namespaces():
            if self._is_home(namespace):
                mine = [key for key, value in namespace.items() if value is self.old]
                self.missed += [f"{name}.{key}: the new one is written there" for key in mine]
                continue
            for key, value in list(namespace.items()):
                self._visit(f"{name}.{key}", namespace, key, value, ways, DEEPEST)
        if isinstance(self.old, type):
            children: list[type] = type.__subclasses__(self.old)
            for child in children:
                self._rebase(child)

    def _visit(self, where: str, owner: Any, key: Any, value: Any, ways: set[int], depth: int) -> None:
        """Changes one place if it has the old one, or else what the value there holds."""
        after = _swapped(value, self.old, self.new)
        if after is not value:
            self._put(_Slot(where, owner, key, value, after))
        if (
            depth
            and value is not self.old
            and id(value) in ways
            and type(value) not in (ModuleType, Replacement, _Slot)
        ):
            ways.discard(id(value))
            for place, holder, name, item in list(inside(value, where, where.rpartition(".")[0])):
                self._visit(place, holder, name, item, ways, depth - 1)

    def _put(self, slot: _Slot) -> None:
        try:
            slot.write(slot.after)
        except (TypeError, AttributeError) as error:
            self.missed.append(f"{slot.where}: {error}")
        else:
            self._slots.append(slot)

    def _rebase(self, child: type) -> None:
        """Lets a subclass of the old one stand on the new one."""
        if not issubclass(self.new, child):
            bases = tuple(self.new if base is self.old else base for base in child.__bases__)
            self._put(_Slot(f"the base of {_name(child)}", child, "__bases__", child.__bases__, bases))
        elif child is not self.new:
            self.missed.append(f"the base of {_name(child)}: {_name(self.new)} stands on it itself")


def _swapped(value: Any, old: Any, new: Any, depth: int = 3) -> Any:
    """The value with the new one instead of the old one: itself, in a tuple, or in a static or class method."""
    if value is old:
        return new
    if type(value) in (staticmethod, classmethod) and value.__func__ is old:
        return type(value)(new)
    if type(value) is tuple and depth:
        items = tuple([_swapped(item, old, new, depth - 1) for item in value])
        return items if any(a is not b for a, b in zip(items, value, strict=True)) else value
    return value


def _resolve(name: str) -> tuple[str, Any]:
    """What a dotted name means; the modules in it are imported."""
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:length])
        try:
            found: Any = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is not None and f"{module}.".startswith(f"{error.name}."):
                continue  # a class, or nothing
            raise PluginError(f"replace: {module} cannot be imported: {error}") from error
        for part in parts[length:]:
            owner = found
            found = inspect.getattr_static(owner, part, None) if isinstance(owner, type) else getattr(owner, part, None)
            if found is None:
                near = did_you_mean(part, dir(owner))
                raise PluginError(f"replace: {_name(owner)} has no '{part}'{near}")
        return name, found
    raise PluginError(f"replace: '{name}' is no dotted name of a class or function, such as package.module.Class")


def _function(thing: Any) -> Any:
    return thing.__func__ if isinstance(thing, staticmethod | classmethod) else thing


def _name(thing: Any) -> str:
    thing = _function(thing)
    name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None) or repr(thing)
    module = getattr(thing, "__module__", None)
    return f"{module}.{name}" if module else str(name)


def _set_tag(new: Any, old: Any) -> None:
    """Keeps the original in reach of the new one, where that takes attributes."""
    with contextlib.suppress(AttributeError, TypeError):
        if old is None:
            del _function(new).__replaced__
        else:
            _function(new).__replaced__ = _function(old)
