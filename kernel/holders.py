"""What has a class or function, as the garbage collector knows: containers above it, and what is left after a swap."""

from __future__ import annotations

import contextlib
import functools
import gc
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import BuiltinFunctionType, CellType, FrameType, FunctionType, MethodType, ModuleType
from typing import Any

HEAP_TYPE = 1 << 9
"""Of `type.__flags__`: the class was made by Python code (Py_TPFLAGS_HEAPTYPE)."""
CHUNK = 64
MOST = 20_000
"""Holders in a level; beyond that it is no registry."""
OWN_FILES = {str(Path(__file__)), str(Path(__file__).with_name("replace.py"))}


def above(thing: Any, levels: int) -> set[int]:
    """The ids of all that hold a thing, directly or through others, up to the modules: where a search has to look."""
    found: set[int] = set()
    level = [thing]
    for _ in range(levels):
        classes = {one for one in level if isinstance(one, type)}
        holders = {}
        for start in range(0, len(level), CHUNK):
            holders.update({id(holder): holder for holder in gc.get_referrers(*level[start : start + CHUNK])})
        level = [
            holder
            for key, holder in holders.items()
            if key not in found
            and holder is not level
            and not _ends(holder)
            and type(holder) not in classes  # its instances
        ]
        found |= {id(holder) for holder in level}
        if not level or len(level) > MOST:
            break
    return found


def _ends(holder: Any) -> bool:
    """Whether there is no way from a module through this."""
    return type(holder) in (FrameType, CellType, ModuleType) or (type(holder) is dict and _is_namespace(holder))


def namespaces() -> Iterator[tuple[str, dict[str, Any]]]:
    """The namespaces of all modules, each once."""
    seen = set()
    for name, module in sorted(sys.modules.items()):
        if isinstance(module, ModuleType) and id(module) not in seen:
            seen.add(id(module))
            yield name, module.__dict__


def inside(value: Any, where: str, module: str) -> Iterator[tuple[str, Any, Any, Any]]:
    """(name, owner, key, item) of what a dict, list, function, plain object or class of that module holds."""
    kind = type(value)
    if issubclass(kind, type):
        if value.__module__ == module or where.startswith(f"{value.__module__}."):
            for key, item in list(vars(value).items()):
                yield f"{where}.{key}", value, key, item
                if isinstance(item, staticmethod | classmethod):
                    yield from inside(item.__func__, f"{where}.{key}", module)
    elif issubclass(kind, dict):
        yield from ((f"{where}[{key!r:.40}]", value, key, item) for key, item in list(dict.items(value)))
    elif issubclass(kind, list):
        yield from ((f"{where}[{key}]", value, key, item) for key, item in enumerate(list.__iter__(value)))
    elif kind is FunctionType:
        yield f"the defaults of {where}", value, "__defaults__", value.__defaults__
        if value.__kwdefaults__:
            yield from inside(value.__kwdefaults__, f"the defaults of {where}", module)
    elif kind is tuple:  # an item itself cannot be changed in place, but what it holds
        for key, item in enumerate(value):
            yield from inside(item, f"{where}[{key}]", module)
    else:
        with contextlib.suppress(AttributeError, TypeError):  # most have none
            held = object.__getattribute__(value, "__dict__")
            if type(held) is dict:
                yield from ((f"{where}.{key}", held, key, item) for key, item in list(held.items()))


def unreached(old: Any) -> list[str]:
    """In words, all that goes on using `old` as far as the garbage collector knows."""
    found: Counter[str] = Counter()
    cells: list[Any] = []
    tuples: list[Any] = []
    for holder in gc.get_referrers(old):
        if isinstance(old, type) and type(holder) is old:
            found["an instance that exists already"] += 1
        elif isinstance(holder, CellType):
            cells.append(holder)
        elif isinstance(holder, tuple):
            tuples.append(holder)
        elif isinstance(holder, FrameType) and holder.f_code.co_filename not in OWN_FILES:
            found[f"a variable of {holder.f_code.co_qualname}, which is running"] += 1
        elif isinstance(holder, functools.partial):
            found["a functools.partial"] += 1
        elif isinstance(holder, MethodType):
            found[f"a bound method {holder.__qualname__}"] += 1
        elif type(holder) is dict and holder.get("__replaced__") is not old and not _is_namespace(holder):
            key = any(key is old for key in holder)
            found["a key of a dict" if key else "a dict or a class that no module holds"] += 1
        elif isinstance(holder, list | set | frozenset):
            found[f"a {type(holder).__name__}"] += 1
    found.update(_closures(cells))
    found.update(_tuples(tuples))
    kept = [f"{name} ({count} times)" if count > 1 else name for name, count in sorted(found.items())]
    return kept + _own_names(old) + _built_in(old)


def _closures(cells: list[Any]) -> Iterator[str]:
    """The functions whose closures these cells are in."""
    known = {id(cell) for cell in cells}
    closures = [one for one in gc.get_referrers(*cells) if type(one) is tuple] if cells else []
    for function in gc.get_referrers(*closures) if closures else []:
        if type(function) is FunctionType and function.__closure__:
            names = zip(function.__code__.co_freevars, function.__closure__, strict=True)
            for name in [name for name, cell in names if id(cell) in known]:
                if name != "__class__":  # by which `super()` knows its class
                    yield f"the closure of {function.__module__}.{function.__qualname__}, as {name}"


def _tuples(tuples: list[Any]) -> Iterator[str]:
    """Whose tuples these are."""
    known = {id(one) for one in tuples}
    for owner in gc.get_referrers(*tuples) if tuples else []:
        if type(owner) is FunctionType and id(owner.__defaults__) in known:
            known.discard(id(owner.__defaults__))
            yield f"a default of {owner.__module__}.{owner.__qualname__}"
        elif issubclass(type(owner), type):
            known -= {id(owner.__bases__), id(owner.__mro__)}
        elif isinstance(owner, functools.partial) and id(owner.args) in known:
            known.discard(id(owner.args))
            yield "the arguments of a functools.partial"
    yield from ["a tuple" for _ in known]


def _own_names(old: Any) -> list[str]:
    """Methods that call their class by its name, and now get the new one: with `super(Old, self)` that never ends."""
    if not isinstance(old, type) or vars(sys.modules.get(old.__module__, old)).get(old.__name__) is old:
        return []
    functions = [getattr(item, "__func__", item) for item in vars(old).values()]
    return [
        f"{function.__qualname__} calls its class by name, and gets the new one"
        for function in functions
        if type(function) is FunctionType and old.__name__ in function.__code__.co_names
    ]


def _built_in(old: Any) -> list[str]:
    if isinstance(old, BuiltinFunctionType) or (isinstance(old, type) and not old.__flags__ & HEAP_TYPE):
        return ["code in C that uses it"]
    return []


def _is_namespace(holder: dict[Any, Any]) -> bool:
    """Whether it is a module's: what is left in one was left on purpose, and is told apart."""
    return getattr(sys.modules.get(str(holder.get("__name__"))), "__dict__", None) is holder
