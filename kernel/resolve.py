"""Resolves a scene: each setting gets its value, from the command line, the scene file or its declaration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from . import architectures, old_scene, registry, retired
from .errors import PluginError, SceneError, did_you_mean
from .options import Option, options_of
from .parsing import Raw
from .scene import SPLITS, Origin, Scene, Split, Value, named_plugins
from .sources import ELSEWHERE, Given, read_scene_file, read_tokens, shown_path
from .stand_ins.loading import load
from .stand_ins.recorded import Recorded, read, said


def resolve(
    reference: str | None,
    tokens: Sequence[str],
    kernel: Sequence[type],
    *,
    overrides: Mapping[str, Raw] | None = None,
    splits: Callable[[Scene], Sequence[Split]] = lambda scene: SPLITS,
) -> Scene:
    """The scene of a name or path, with `--name value` tokens over it.

    Args:
        reference: a scene's name (a file of scenes/) or path; None for settings from the command line alone.
        tokens: the command line after the scene.
        kernel: the dataclasses of the kernel's own settings.
        overrides: values over those of the file and under those of the command line; a model folder brings them.
        splits: tells what a scene of these settings works on.

    Raises:
        SceneError: a missing file, an unknown setting or a value of the wrong type.
        PluginError: a plugin that is unknown or cannot be imported.
    """
    path, given, notes = read_scene_file(reference) if reference is not None else (None, [], [])
    given += [Given(name, raw, "model folder") for name, raw in (overrides or {}).items()]
    given += read_tokens(tokens)
    is_old = old_scene.is_argument_file(path)
    given = old_scene.as_meant(given, notes) if is_old else given
    declared = {option.name: option for owner in kernel for option in options_of(owner, "kernel")}
    values = {name: Value(option, option.default, Origin("default")) for name, option in declared.items()}
    recorded = _recorded(given)
    rest = _take(given, declared, values)
    used = _used(Scene("", path, values), splits)
    unreached = _load(values["plugin"], recorded, used)
    if not values["task"].value:
        known = ", ".join(sorted(registry.names("model")))
        place = shown_path(path) if path else "the command line"
        raise SceneError(f"{place} names no task; say which model is to be trained, as in 'task: NAME' ({known})")
    notes += _own_architectures(values["task"].value)
    plugins = dict(_plugin_options(values, declared, unreached))
    values.update({name: Value(option, option.default, Origin("default")) for name, option in plugins.items()})
    everything = {**declared, **plugins}
    rest = retired.leave_out(rest, everything, notes)
    if is_old:
        aliases = {alias for option in everything.values() for alias in option.aliases}
        rest = old_scene.leave_out(rest, {*everything, *aliases}, notes)
    for item in _take(_expand_max_length(rest, plugins, notes), plugins, values):
        # what a resolved scene recorded of a plugin that is not named any more
        theirs = [key for key, one in unreached.items() if _declares(one.options, item.name)]
        if item.kind != "default" and (item.kind != "scene file" or not theirs):
            _refuse(item, everything, theirs)
    name = values["name"].value or (path.stem if path else "scene")
    return Scene(name, path, values, notes, _said(values["plugin"], recorded), unreached)


def _recorded(given: list[Given]) -> Mapping[str, Sequence[str]]:
    """Takes what a resolved scene holds of plugins in other processes out of the settings."""
    for place, item in enumerate(given):
        if item.name == ELSEWHERE and isinstance(item.raw, dict):
            del given[place]
            return item.raw
    return {}


def _used(scene: Scene, splits: Callable[[Scene], Sequence[Split]]) -> set[tuple[str, str]]:
    """(kind, name) of the plugins that what the scene works on needs."""
    settings = {"task"}
    for split in splits(scene):
        settings |= {scene.header_setting(split, "model_header")}
        settings |= {"output_type"} if split == "predict" else {"trainer", "eval_metrics"}
    return {(kind, name) for kind, name, setting in named_plugins(scene.values) if setting in settings}


def _load(
    plugins: Value, recorded: Mapping[str, Sequence[str]], used: set[tuple[str, str]]
) -> dict[tuple[str, str], Recorded]:
    """Makes the scene's own plugins known; gives those that are not, as they are recorded and nothing uses them.

    An error names the place of the setting instead of its flag.
    """
    known = {
        endpoint: {(one.kind, one.name): one for one in read(endpoint, said)} for endpoint, said in recorded.items()
    }
    for one in plugins.value:
        if one in known and not used & known[one].keys():
            continue
        try:
            load(one)
        except PluginError as error:
            raise PluginError(str(error).replace("--plugin", plugins.origin.place("plugin"), 1)) from error
        known.pop(one, None)
    return {key: one for plugins_there in known.values() for key, one in plugins_there.items() if key not in used}


def _said(plugins: Value, recorded: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """What the scene records of plugins in other processes: what they say now, where they were reached."""
    return {**recorded, **{one: said(one) for one in plugins.value if registry.at_endpoint(one)}}


def _take(given: Sequence[Given], declared: Mapping[str, Option], values: dict[str, Value]) -> list[Given]:
    """Puts what is declared into `values` (a later one wins) and returns the rest."""
    names = {alias: option for option in declared.values() for alias in (option.name, *option.aliases)}
    rest = []
    taken: dict[tuple[str, str], Given] = {}
    for item in given:
        option = names.get(item.name)
        if option is None:
            rest.append(item)
            continue
        earlier = taken.setdefault((option.name, item.kind), item)
        if earlier.name != item.name and earlier.raw != item.raw:
            raise SceneError(
                f"{item.place} is another word for {earlier.name}, which is set to {earlier.shown}; keep one of them"
            )
        try:
            value = option.parse(item.raw)
        except ValueError as error:
            reason = f"has no value; it takes a {option.kind}" if item.bare else f"= {item.shown} {error}"
            raise SceneError(f"{item.place} {reason}") from None
        if option.is_path and value is not None:
            value = item.resolve(value, is_model=option.is_model)
        if option.adds_up and item.kind == "command line" and values[option.name].origin.kind == "command line":
            value = (*values[option.name].value, *(value or ()))
        origin = Origin("default") if item.kind == "default" else Origin(item.kind, item.file, item.line)
        values[option.name] = Value(option, value, origin)
    return rest


def _plugin_options(
    values: Mapping[str, Value], kernel: Mapping[str, Option], unreached: Mapping[tuple[str, str], Recorded]
) -> Iterator[tuple[str, Option]]:
    """The options of every plugin that the scene names.

    A plugin that is missing is reported where it is named. One setting has one meaning: two plugins of a scene may
    declare the same option only with the same type and default, and none may take a name of the kernel.
    """
    seen: dict[str, Option] = {}
    for kind, name, setting in named_plugins(values):
        if (kind, name) in unreached:
            options = unreached[kind, name].options
        else:
            try:
                plugin = registry.find(kind, name).plugin
            except PluginError as error:
                place = "" if values[setting].origin.kind == "default" else f"{values[setting].origin.place(setting)}: "
                raise type(error)(f"{place}{error}") from error
            options = options_of(plugin, f"{kind} {name}")
        for option in options:
            if option.name in kernel:
                raise PluginError(
                    f"{kind} '{name}' declares option '{option.name}', which is a setting of the kernel; rename it"
                )
            known = seen.get(option.name)
            if known is not None and (known.type, known.default) != (option.type, option.default):
                raise PluginError(
                    f"{known.declared_by} and {option.declared_by} both declare '{option.name}', "
                    "with another type or default; they must agree, or one of them be renamed"
                )
            if known is None:
                seen[option.name] = option
                yield option.name, option


def _own_architectures(task: str) -> Iterator[str]:
    """What is built by model classes of the user's own, as installing a package may be enough for that.

    Raises:
        PluginError: one is for a task that there is not.
    """
    architectures.check_tasks(registry.names("model"))
    for key, place in architectures.places(task).items():
        file, colon, line = place.rpartition(":")
        shown = f"{shown_path(Path(file))}:{line}" if colon and line.isdigit() else place
        name = key.partition(".")[2]
        yield f"the model class of {shown} is built for {f'checkpoints of {name}' if name else 'every checkpoint'}"


def _expand_max_length(given: Sequence[Given], declared: Mapping[str, Option], notes: list[str]) -> list[Given]:
    """The original's `max_length` meant the cut of targets and the length of generation: it becomes the two."""
    meanings = [name for name in ("target_max_length", "max_new_tokens") if name in declared]
    expanded: list[Given] = []
    set_themselves = {(item.name, item.kind): item for item in given}
    for item in given:
        if item.name != "max_length":
            expanded.append(item)
            continue
        if not meanings:
            raise SceneError(
                f"{item.place} means target_max_length and max_new_tokens, and this scene has neither; "
                "the cut of the input is source_max_length"
            )
        for name in meanings:
            other = set_themselves.get((name, item.kind))  # of another kind, the later one wins
            if other is not None and other.raw != item.raw:
                raise SceneError(
                    f"{item.place} = {item.shown} is another word for {name}, which is set to "
                    f"{other.shown}; keep one of them"
                )
            expanded.append(replace(item, name=name))
        notes.append(f"{item.place} is read as {' and '.join(meanings)}")
    return expanded


def _declares(options: Iterable[Option], word: str) -> bool:
    return any(word in (option.name, *option.aliases) for option in options)


def _refuse(item: Given, declared: Mapping[str, Option], unreached: Iterable[tuple[str, str]]) -> None:
    """Says why a setting is not known: a typo, or an option of a plugin that the scene does not use.

    Args:
        unreached: plugins that have it, beside those that are registered.
    """
    names = [alias for option in declared.values() for alias in (option.name, *option.aliases)]
    near = did_you_mean(item.name, [*names, "max_length"])
    owners = {f"{kind} '{name}'": None for kind, name in unreached}
    for kind in registry.KINDS:
        for name in sorted(registry.names(kind)):
            try:
                options = options_of(registry.find(kind, name).plugin, f"{kind} {name}")
            except PluginError:
                continue
            if _declares(options, item.name):
                owners[f"{kind} '{name}'"] = None
    if owners:
        raise SceneError(f"{item.place} is an option of {' and '.join(owners)}, which this scene does not use")
    raise SceneError(f"{item.place}: there is no such setting{near or '; `deepgen run --help` lists them'}")
