"""Finds a plugin by kind and name, and imports it on first use: in the tree, by entry point, or from `--plugin FILE`.

    @metric("acc")
    @dataclass
    class Accuracy(Metric): ...

In the tree, `plugins/metrics/acc.py` is found by its file name; elsewhere an entry point `metric.acc` of the group
`deepgen.plugins` names the class, and a file given by `--plugin` may hold any number of plugins. `@register_model`,
which gives a task a model class of one's own, may stand in any of them.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, TypeVar

from . import architectures
from .architectures import register_model as register_model
from .contracts import Metric, Model, Outputter, Plugin, Processor, Trainer
from .errors import DeepgenError, NoPlugin, PluginError, did_you_mean
from .offers import blame, offers
from .options import options_of

KINDS: dict[str, type[Plugin]] = {
    "processor": Processor,
    "model": Model,
    "metric": Metric,
    "outputter": Outputter,
    "trainer": Trainer,
}
PluginClass = TypeVar("PluginClass", bound="type[Any]")
_ADDRESSES = "; one in another process is exec:COMMAND, unix:/PATH, grpcs://HOST:PORT or grpc://127.0.0.1:PORT"


@dataclass(frozen=True)
class Found:
    """A plugin class and where it came from."""

    plugin: type[Plugin]
    source: str
    """`in the tree`, `entry point NAME of DISTRIBUTION`, or the file of `--plugin`."""
    version: str


_registered: dict[tuple[str, str], type[Plugin]] = {}
_from_files: dict[tuple[str, str], Path] = {}
_from_endpoints: dict[tuple[str, str], str] = {}
_contents: dict[Path, str] = {}
"""What was in a file when it was imported, as a hash."""


def _decorator(kind: str, name: str) -> Callable[[PluginClass], PluginClass]:
    def register(plugin: PluginClass) -> PluginClass:
        if not issubclass(plugin, KINDS[kind]):
            raise PluginError(f"@{kind}('{name}') stands on {plugin.__qualname__}, which is no {KINDS[kind].__name__}")
        if missing := sorted(getattr(plugin, "__abstractmethods__", ())):
            raise PluginError(f"{kind} '{name}' lacks {', '.join(missing)}, which a {KINDS[kind].__name__} has")
        known = _registered.get((kind, name))
        if known is not None and (known.__module__, known.__qualname__) != (plugin.__module__, plugin.__qualname__):
            raise PluginError(f"{kind} '{name}' is registered twice: in {_file(known)} and in {_file(plugin)}")
        plugin.name = name
        _registered[kind, name] = plugin
        return plugin

    return register


def processor(name: str) -> Callable[[PluginClass], PluginClass]:
    """Registers a Processor under a name."""
    return _decorator("processor", name)


def model(name: str) -> Callable[[PluginClass], PluginClass]:
    """Registers a Model under the name of its task."""
    return _decorator("model", name)


def metric(name: str) -> Callable[[PluginClass], PluginClass]:
    """Registers a Metric under a name."""
    return _decorator("metric", name)


def outputter(name: str) -> Callable[[PluginClass], PluginClass]:
    """Registers an Outputter under a name."""
    return _decorator("outputter", name)


def trainer(name: str) -> Callable[[PluginClass], PluginClass]:
    """Registers a Trainer under a name."""
    return _decorator("trainer", name)


def load_file(path: str) -> None:
    """Imports a file of `--plugin`, once; the plugins in it are known from then on.

    A copy of a file that was imported is the same one: models whose folders hold it may be loaded side by side.

    Raises:
        PluginError: no such file, an error while it was imported, no plugin in it, or an option that none can have.
    """
    file = Path(path).resolve()
    if file in _from_files.values():
        return
    if file.is_dir():
        raise PluginError(f"--plugin {path}: is a folder; give the Python file in it that holds the plugins")
    if not file.is_file():
        raise PluginError(f"--plugin {path}: no such file{_ADDRESSES if ':' in path else ''}")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if any(_contents[known] == digest for known in _from_files.values()):
        return
    name = f"deepgen_plugin_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise PluginError(f"--plugin {path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        _forget(name)
        if isinstance(error, PluginError):
            raise
        raise PluginError(f"--plugin {path} cannot be imported: {blame(error, file)}") from error
    added = [key for key, plugin in _registered.items() if plugin.__module__ == name]
    own = [("architecture", made.key) for made in architectures.registered_by(name)]
    if not added and not own:
        _forget(name)
        raise PluginError(f"--plugin {path} registers no plugin; decorate a class with @processor('name') or the like")
    for kind, plugin_name in added:
        try:
            options_of(_registered[kind, plugin_name], f"{kind} {plugin_name}")
        except PluginError as error:
            _forget(name)
            raise PluginError(f"--plugin {path}: {error}") from error
        if (spot := _in_tree(kind, plugin_name)) is not None:
            _forget(name)
            raise PluginError(f"{kind} '{plugin_name}' is registered twice: in {spot} and in {file}")
    _from_files.update((key, file) for key in [*added, *own])
    _contents[file] = digest


def add(endpoint: str, plugins: Sequence[type[Plugin]]) -> None:
    """Registers the classes that stand for what an endpoint offers.

    Raises:
        PluginError: one of them is registered already.
    """
    seen: dict[tuple[str, str], type[Plugin]] = {}
    for plugin in plugins:
        key = plugin.kind, plugin.name
        spot, known = _in_tree(*key), _registered.get(key) or seen.get(key)
        seen[key] = plugin
        if spot is not None or known is not None:
            place = spot or _file(known)  # type: ignore[arg-type]
            raise PluginError(f"{plugin.kind} '{plugin.name}' is registered twice: in {place} and in {endpoint}")
    for plugin in plugins:
        _registered[plugin.kind, plugin.name] = plugin
        _from_endpoints[plugin.kind, plugin.name] = endpoint
    find.cache_clear()


def at_endpoint(endpoint: str) -> list[type[Plugin]]:
    """The classes that stand for what an endpoint offers; none before it was reached."""
    return [_registered[key] for key, place in _from_endpoints.items() if place == endpoint]


def plugins_of(path: str) -> list[tuple[str, str]]:
    """(kind, name) of the plugins in a file that was imported."""
    file = Path(path).resolve()
    return [key for key, place in _from_files.items() if place == file and key[0] in KINDS]


def _forget(module: str) -> None:
    """Takes back what a file registered before it was refused."""
    sys.modules.pop(module, None)
    for key in [key for key, plugin in _registered.items() if plugin.__module__ == module]:
        del _registered[key]
    architectures.forget(module)


@cache
def find(kind: str, name: str) -> Found:
    """The plugin of that kind and name.

    Raises:
        PluginError: unknown (with the nearest name), registered twice (with both places), or broken (with the cause).
    """
    places: list[tuple[str, Callable[[], None]]] = []
    if (spot := _in_tree(kind, name)) is not None:
        places.append((str(spot), lambda: _import(kind, name)))
    for point in offers(kind, name):
        places.append((f"entry point {point.name} = {point.value}", _loader(kind, name, point)))
    if (kind, name) in _from_files:
        places.append((str(_from_files[kind, name]), lambda: None))
    if (kind, name) in _from_endpoints:
        places.append((_from_endpoints[kind, name], lambda: None))
    if not places:
        known = names(kind)
        near = did_you_mean(name, known)
        others = near or "; there are " + ", ".join(sorted(known))
        raise NoPlugin(f"no {kind} is called '{name}'{others}", f"{kind} '{name}'")
    if len(places) > 1:
        raise PluginError(f"{kind} '{name}' is registered twice: in {places[0][0]} and in {places[1][0]}")
    place, load = places[0]
    try:
        load()
    except PluginError:
        raise
    except (Exception, SystemExit) as error:
        title = f"{kind} '{name}'"
        raise NoPlugin(f"{title} cannot be imported: {blame(error, Path(place))}", title) from error
    if (kind, name) not in _registered:
        raise PluginError(f"{place} registers no {kind} called '{name}'; decorate its class with @{kind}('{name}')")
    plugin = _registered[kind, name]
    options_of(plugin, f"{kind} {name}")
    return Found(plugin, "in the tree" if spot is not None else place, _version(plugin))


def names(kind: str) -> set[str]:
    """The names of all plugins of a kind, without importing them."""
    folder = importlib.import_module(f"..plugins.{kind}s", __package__)
    found = {module.name for module in pkgutil.iter_modules(folder.__path__)}
    found |= {point.name.removeprefix(f"{kind}.") for point in offers(kind)}
    return found | {name for known_kind, name in (*_from_files, *_from_endpoints) if known_kind == kind}


@contextmanager
def asking(plugin: Plugin | type[Plugin], cannot: str = "say what it is") -> Iterator[None]:
    """What a plugin raises while it is asked something about itself is told with its name and its place.

    Raises:
        PluginError: it raised something that is no error of DeepGen's, or ended the program.
    """
    try:
        yield
    except DeepgenError:
        raise
    except (Exception, SystemExit) as error:
        title = f"{plugin.kind} '{plugin.name}' of {_file(plugin)}"
        words = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise PluginError(f"{title} cannot {cannot}: {words}") from error


def _in_tree(kind: str, name: str) -> Path | None:
    spec = None
    if name.isidentifier():
        spec = importlib.util.find_spec(f"..plugins.{kind}s.{name}", __package__)
    return Path(spec.origin) if spec is not None and spec.origin else None


def _import(kind: str, name: str) -> None:
    importlib.import_module(f"..plugins.{kind}s.{name}", __package__)


def _loader(kind: str, name: str, point: EntryPoint) -> Callable[[], None]:
    def load() -> None:
        plugin = point.load()
        _decorator(kind, name)(plugin)

    return load


def _file(plugin: Plugin | type[Plugin]) -> str:
    if plugin.elsewhere is not None:
        return plugin.elsewhere.endpoint
    module = sys.modules.get(plugin.__module__)
    return getattr(module, "__file__", None) or plugin.__module__


def _version(plugin: type[Plugin]) -> str:
    """The version of the distribution that holds the plugin; of a single file, the start of its hash."""
    from importlib.metadata import version

    top = plugin.__module__.partition(".")[0]
    if plugin.elsewhere is not None:
        return plugin.elsewhere.version
    if plugin.__module__.startswith("deepgen."):
        return version("deepgen")
    if (owners := _distributions().get(top)) is not None:
        return version(owners[0])
    return hashlib.sha256(Path(_file(plugin)).read_bytes()).hexdigest()[:12]


@cache
def _distributions() -> Mapping[str, Sequence[str]]:
    """The distributions that hold each package: all that is installed is looked through."""
    from importlib.metadata import packages_distributions

    return packages_distributions()
