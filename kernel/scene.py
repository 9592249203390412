"""A scene: every setting of a run with its value and where it was given (command line > scene file > default)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast

from . import header, registry
from .contracts import Metric, Model, Outputter, Processor, Trainer
from .errors import PluginError, SceneError, did_you_mean
from .options import Alias, InputPath, Option, Raw, build, options_of
from .sources import Given, read_scene_file, read_tokens

if TYPE_CHECKING:
    from .pretrained import Pretrained

Settings = TypeVar("Settings")
Split = Literal["train", "eval", "predict"]
SPLITS: tuple[Split, ...] = ("train", "eval", "predict")


@dataclass(frozen=True)
class SceneSettings:
    """What a scene is made of: the plugins it names and the headers that feed them."""

    task: str = ""
    """The model plugin: what is to be learned, such as seq2label or seq2seq."""
    trainer: str = "common"
    """The trainer plugin."""
    eval_metrics: tuple[str, ...] = ()
    """Metric plugins, divided by commas; the first chooses the best model. `metric:key` picks one key of a metric."""
    output_type: Annotated[str | None, Alias("outputter")] = None
    """The outputter plugin; by default `generation` for text and `score` for everything else."""
    train_header: tuple[str, ...] = ()
    """Column names of the training file, divided by commas."""
    eval_header: tuple[str, ...] = ()
    """Column names of the evaluation file; by default those of train_header."""
    predict_header: tuple[str, ...] = ()
    """Column names of the file to predict; by default those of eval_header."""
    train_model_header: tuple[str, ...] = ()
    """How the columns of the training file become features; see the header grammar in the README."""
    eval_model_header: tuple[str, ...] = ()
    """The same for evaluation; by default train_model_header."""
    predict_model_header: tuple[str, ...] = ()
    """The same for prediction, where labels are not needed."""
    plugin: Annotated[tuple[str, ...], InputPath] = ()
    """Python files with plugins of your own."""


@dataclass(frozen=True)
class Origin:
    """Where a value was given."""

    kind: Literal["default", "scene file", "command line", "model folder"]
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.file else self.kind


@dataclass(frozen=True)
class Value:
    """The value of one setting."""

    option: Option
    value: Any
    origin: Origin

    @property
    def is_set(self) -> bool:
        """Given by the user, and not a default."""
        return self.origin.kind != "default"


@dataclass
class Scene:
    """A resolved scene. `read(SomeSettings)` gives a reader its settings; the plugins are built with theirs."""

    name: str
    path: Path | None
    values: dict[str, Value]
    notes: list[str] = field(default_factory=list)
    """What a person should know of how the settings were understood."""

    def read(self, settings: type[Settings]) -> Settings:
        """The settings that a dataclass declares, with this scene's values."""
        declared = options_of(settings, "kernel")
        return cast(Settings, build(settings, {o.name: self.values[o.name].value for o in declared}, "kernel"))

    def where(self, name: str) -> str:
        """`scenes/x.yaml:3: learning_rate`, for messages; `--learning_rate` when it came from the command line."""
        origin = self.values[name].origin
        return f"--{name}" if origin.kind == "command line" else f"{origin}: {name}" if origin.file else name

    @cached_property
    def settings(self) -> SceneSettings:
        """The plugins and headers."""
        return self.read(SceneSettings)

    @cached_property
    def model(self) -> Model:
        """The model plugin, with its options."""
        return cast(Model, self._plugin("model", self.settings.task))

    @cached_property
    def trainer(self) -> Trainer:
        """The trainer plugin, with its options."""
        return cast(Trainer, self._plugin("trainer", self.settings.trainer))

    @cached_property
    def metrics(self) -> list[tuple[Metric, str]]:
        """The metric plugins, in order, each with the key that was picked (`rouge:rougeL`) or an empty string."""
        return [
            (cast(Metric, self._plugin("metric", name.partition(":")[0])), name.partition(":")[2])
            for name in self.settings.eval_metrics
            if name != "eval_loss"
        ]

    def outputter(self, name: str) -> Outputter:
        """The outputter plugin of that name, with its options."""
        return cast(Outputter, self._plugin("outputter", name))

    def columns(self, split: Split) -> tuple[str, ...]:
        """The column names of a split's file."""
        setting = self._header_setting(split, "header")
        return header.parse_columns(self.values[setting].value, self.where(setting))

    def items(self, split: Split) -> tuple[header.Item, ...]:
        """The model header of a split, parsed and with every column known."""
        setting = self._header_setting(split, "model_header")
        return header.parse_items(self.values[setting].value, self.columns(split), self.where(setting))

    def processors(self, split: Split, pretrained: Pretrained | None = None) -> list[Processor]:
        """The processors of a split, bound to their columns; without `pretrained` they can only tell their fields."""
        bound = []
        for item in self.items(split):
            processor = cast(Processor, self._plugin("processor", item.processor))
            least, most = processor.columns_in
            if not least <= len(item.inputs) <= most:
                wanted = f"{least}" if least == most else f"{least} to {most}"
                where = self.where(self._header_setting(split, "model_header"))
                raise SceneError(
                    f"{where}: '{item.text}' gives {len(item.inputs)} columns to {item.processor}, which takes {wanted}"
                )
            processor.bind(item.inputs, item.output, pretrained)
            bound.append(processor)
        return bound

    def _header_setting(self, split: Split, kind: str) -> str:
        """The setting that holds a split's header: its own, or the one it falls back to."""
        for name in {"train": ("train",), "eval": ("eval", "train"), "predict": ("predict", "eval", "train")}[split]:
            if self.values[f"{name}_{kind}"].value:
                return f"{name}_{kind}"
        return f"{split}_{kind}"

    def _plugin(self, kind: str, name: str) -> Any:
        plugin = registry.find(kind, name).plugin
        declared = options_of(plugin, f"{kind} {name}")
        return build(plugin, {option.name: self.values[option.name].value for option in declared}, f"{kind} {name}")


def resolve(
    reference: str | None,
    tokens: Sequence[str],
    kernel: Sequence[type],
    *,
    defaults: Mapping[str, Raw] | None = None,
) -> Scene:
    """The scene of a name or path, with `--name value` tokens over it.

    Args:
        reference: a scene's name (a file of scenes/) or path; None for settings from the command line alone.
        tokens: the command line after the scene.
        kernel: the dataclasses of the kernel's own settings.
        defaults: values that replace the declared defaults (`predict --from` uses it).

    Raises:
        SceneError: a missing file, an unknown setting or a value of the wrong type.
        PluginError: a plugin that is unknown or cannot be imported.
    """
    path, given = read_scene_file(reference) if reference is not None else (None, [])
    notes: list[str] = []
    given = [*given, *read_tokens(tokens)]
    declared = {option.name: option for owner in kernel for option in options_of(owner, "kernel")}
    values = {name: Value(option, option.default, Origin("default")) for name, option in declared.items()}
    for name, raw in (defaults or {}).items():
        values[name] = Value(declared[name], declared[name].parse(raw), Origin("model folder"))
    first = _take(given, declared, values)
    for file in values["plugin"].value:
        registry.load_file(file)
    declared_by_plugins = dict(_plugin_options(values, declared))
    for option in declared_by_plugins.values():
        values.setdefault(option.name, Value(option, option.default, Origin("default")))
    rest = _expand_max_length(first, declared_by_plugins, notes)
    left = _take(rest, declared_by_plugins, values)
    if left:
        _refuse(left[0], {**declared, **declared_by_plugins})
    if (unset := values["task"]).value == "":
        raise SceneError(
            f"{path or 'the command line'} names no task; say which model is to be trained, as in 'task: seq2label'"
        )
    assert unset is not None
    return Scene(path.stem if path else "scene", path, values, notes)


def _take(given: Sequence[Given], declared: Mapping[str, Option], values: dict[str, Value]) -> list[Given]:
    """Puts what is declared into `values` (a later one wins) and returns the rest."""
    names = {alias: option for option in declared.values() for alias in (option.name, *option.aliases)}
    rest = []
    for item in given:
        option = names.get(item.name)
        if option is None:
            rest.append(item)
            continue
        try:
            value = option.parse(item.raw)
        except ValueError as error:
            raise SceneError(f"{item.where}: {item.name} = {item.shown} {error}") from None
        if option.is_path and value is not None:
            value = item.resolve(value)
        values[option.name] = Value(option, value, Origin(item.kind, item.file, item.line))
    return rest


def _plugin_options(values: Mapping[str, Value], kernel: Mapping[str, Option]) -> Iterator[tuple[str, Option]]:
    """The options of every plugin that the scene names.

    A plugin that is missing is reported where it is named. One setting has one meaning: two plugins of a scene may
    declare the same option only with the same type and default, and none may take a name of the kernel.
    """
    seen: dict[str, Option] = {}
    for kind, name, setting in _named_plugins(values):
        try:
            plugin = registry.find(kind, name).plugin
        except PluginError as error:
            origin = values[setting].origin
            place = "" if origin.kind == "default" else f"{origin}: {setting}: "
            raise type(error)(f"{place}{error}") from error
        for option in options_of(plugin, f"{kind} {name}"):
            if option.name in kernel:
                raise PluginError(
                    f"{kind} '{name}' declares option '{option.name}', which is a setting of the kernel; rename it"
                )
            known = seen.get(option.name)
            if known is not None and (known.type, known.default) != (option.type, option.default):
                raise PluginError(
                    f"{known.declared_by} and {option.declared_by} both declare '{option.name}', with another type or default"
                )
            if known is None:
                seen[option.name] = option
                yield option.name, option


def _named_plugins(values: Mapping[str, Value]) -> Iterator[tuple[str, str, str]]:
    """(kind, name, setting) of every plugin that the settings name."""
    if values["task"].value:
        yield "model", values["task"].value, "task"
    yield "trainer", values["trainer"].value, "trainer"
    for name in values["eval_metrics"].value:
        if name != "eval_loss":
            yield "metric", name.partition(":")[0], "eval_metrics"
    if values["output_type"].value:
        yield "outputter", values["output_type"].value, "output_type"
    else:
        yield "outputter", "score", "output_type"
        yield "outputter", "generation", "output_type"
    for split in SPLITS:
        setting = f"{split}_model_header"
        for text in values[setting].value:
            parts = text.split(":")
            yield "processor", parts[0].strip() if len(parts) > 1 else "basic", setting


def _expand_max_length(given: Sequence[Given], declared: Mapping[str, Option], notes: list[str]) -> list[Given]:
    """The original's `max_length` meant the cut of targets and the length of generation: it becomes the two."""
    meanings = [name for name in ("target_max_length", "max_new_tokens") if name in declared]
    expanded: list[Given] = []
    set_themselves = {item.name: item for item in given}
    for item in given:
        if item.name != "max_length":
            expanded.append(item)
            continue
        if not meanings:
            raise SceneError(
                f"{item.where}: max_length means target_max_length and max_new_tokens, and this scene has neither; "
                "the cut of the input is source_max_length"
            )
        for name in meanings:
            other = set_themselves.get(name)
            if other is not None and other.raw != item.raw:
                raise SceneError(
                    f"{item.where}: max_length = {item.shown} is another word for {name}, which {other.where} sets to {other.shown}; "
                    "keep one of them"
                )
            expanded.append(replace(item, name=name))
        notes.append(f"{item.where}: max_length is read as {' and '.join(meanings)}")
    return expanded


def _refuse(item: Given, declared: Mapping[str, Option]) -> None:
    """Says why a setting is not known: a typo, or an option of a plugin that the scene does not use."""
    names = [alias for option in declared.values() for alias in (option.name, *option.aliases)]
    near = did_you_mean(item.name, [*names, "max_length"])
    for kind in registry.KINDS:
        for name in sorted(registry.names(kind)):
            try:
                options = options_of(registry.find(kind, name).plugin, f"{kind} {name}")
            except PluginError:
                continue
            if any(item.name in (option.name, *option.aliases) for option in options):
                raise SceneError(
                    f"{item.where}: {item.name} is an option of {kind} '{name}', which this scene does not use"
                )
    raise SceneError(f"{item.where}: no setting is called '{item.name}'{near or '; `deepgen run --help` lists them'}")
