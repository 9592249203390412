"""A scene: every setting of a run with its value and where it was given (command line > scene file > default)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast

from . import header, registry
from .contracts import Metric, Model, Outputter, Processor, Trainer
from .errors import PluginError, SceneError, did_you_mean
from .options import AddsUp, Alias, InputPath, Option, build, options_of

if TYPE_CHECKING:
    from .pretrained import Pretrained
    from .stand_ins.recorded import Recorded

Settings = TypeVar("Settings")
Split = Literal["train", "eval", "predict"]
SPLITS: tuple[Split, ...] = ("train", "eval", "predict")


@dataclass(frozen=True)
class SceneSettings:
    """What a scene is made of: the plugins it names and the headers that feed them."""

    name: str | None = None
    """The scene's name in the record and of its run folder; by default that of its file."""
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
    label_names: tuple[str, ...] = ()
    """The output of the model headers that is learned, where it is not called `labels`; one name."""
    plugin: Annotated[tuple[str, ...], InputPath, AddsUp] = ()
    """Plugins of your own: Python files, or plugins in other processes: exec:COMMAND, unix:/PATH, grpcs://HOST:PORT."""


@dataclass(frozen=True)
class Origin:
    """Where a value was given."""

    kind: Literal["default", "scene file", "command line", "model folder"]
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.file else self.kind

    def place(self, name: str) -> str:
        """The setting of that name with its place, for messages: `FILE:LINE: NAME`, `--NAME`, or `NAME` alone."""
        return f"--{name}" if self.kind == "command line" else f"{self}: {name}" if self.file else name


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
    elsewhere: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What the plugins in other processes say of themselves, by endpoint; see stand_ins/recorded.py."""
    unreached: Mapping[tuple[str, str], Recorded] = field(default_factory=dict)
    """Those, by kind and name, that are not reached, as nothing that the scene does uses them."""

    def read(self, settings: type[Settings]) -> Settings:
        """The settings that a dataclass declares, with this scene's values."""
        owner: type = settings
        declared = options_of(owner, "kernel")
        return cast(Settings, build(settings, {o.name: self.values[o.name].value for o in declared}, "kernel"))

    def placed(self, error: SceneError) -> SceneError:
        """The error with the place of the setting that its message opens with, where that was set."""
        name = re.match(r"\w*", str(error)).group()  # type: ignore[union-attr]
        return type(error)(self.where(name) + str(error)[len(name) :]) if name in self.values else error

    def where(self, name: str) -> str:
        """`scenes/x.yaml:3: learning_rate`, for messages; `--learning_rate` when it came from the command line."""
        return self.values[name].origin.place(name)

    @property
    def plugins(self) -> list[tuple[str, str]]:
        """(kind, name) of each plugin that it names."""
        return list(dict.fromkeys((kind, name) for kind, name, _ in named_plugins(self.values)))

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
        setting = self.header_setting(split, "header")
        return header.parse_columns(self.values[setting].value, self.where(setting))

    def items(self, split: Split) -> tuple[header.Item, ...]:
        """The model header of a split, parsed and with every column known."""
        setting = self.header_setting(split, "model_header")
        columns = self.header_setting(split, "header")
        written, names = self.values[setting].value, self.settings.label_names
        if len(names) > 1:
            raise SceneError(
                f"{self.where('label_names')} has {len(names)} names, but a task learns one output; several values a "
                "row are one output of a processor that takes lists"
            )
        label = names[0] if names else None
        items = header.parse_items(written, self.columns(split), self.where(setting), columns, label)
        given = [item.text.rpartition(":")[2] for item in items]
        if label not in (None, header.LABELS, *given) and split != "predict" and items:
            near = did_you_mean(str(label), given)
            raise SceneError(f"{self.where('label_names')} = '{label}', which no item of {setting} gives{near}")
        return items

    def processors(self, split: Split, pretrained: Pretrained | None = None) -> list[Processor]:
        """The processors of a split, bound to their columns; without `pretrained` they can only tell their fields."""
        bound = []
        for item in self.items(split):
            processor = cast(Processor, self._plugin("processor", item.processor))
            with registry.asking(processor):
                least, most = processor.columns_in
            if not least <= len(item.inputs) <= most:
                wanted = f"{least}" if least == most else f"{least} to {most}"
                where = self.where(self.header_setting(split, "model_header"))
                raise SceneError(
                    f"{where}: '{item.text}' gives {len(item.inputs)} columns to {item.processor}, which takes {wanted}"
                )
            with registry.asking(processor, "be bound to its columns"):
                processor.bind(item.inputs, item.output, pretrained)
            bound.append(processor)
        return bound

    def header_setting(self, split: Split, kind: str) -> str:
        """The setting that holds a split's header: its own, or the one it falls back to."""
        for name in {"train": ("train",), "eval": ("eval", "train"), "predict": ("predict", "eval", "train")}[split]:
            if self.values[f"{name}_{kind}"].value:
                return f"{name}_{kind}"
        return f"{split}_{kind}"

    def _plugin(self, kind: str, name: str) -> Any:
        if (kind, name) in self.unreached:
            place = self.unreached[kind, name].endpoint
            raise PluginError(
                f"{kind} '{name}' is at {place}, which is not reached: nothing that is to be done uses it"
            )
        plugin = registry.find(kind, name).plugin
        declared = options_of(plugin, f"{kind} {name}")
        values = {option.name: self.values[option.name].value for option in declared}
        try:
            return build(plugin, values, f"{kind} {name}")
        except SceneError as error:
            raise self.placed(error) from None


def named_plugins(values: Mapping[str, Value]) -> Iterator[tuple[str, str, str]]:
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
        yield "outputter", "embedding", "output_type"
    for split in SPLITS:
        setting = f"{split}_model_header"
        for text in values[setting].value:
            parts = text.split(":")
            yield "processor", parts[0].strip() if len(parts) > 1 else "basic", setting
