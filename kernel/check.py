"""Checks that a scene can run, before anything heavy is loaded: settings, headers, files, and that the parts fit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, cast

from . import lora, registry
from .contracts import Field, Model, Plugin, Problem, Processor
from .deepspeed_config import agree, check_given, enabled, read_config, zero_stage
from .drawing import draws
from .engine import EngineSettings
from .errors import DataError, PluginError, SceneError, UserError, did_you_mean
from .lora import LoraSettings
from .no_model import absent, refuse_tokens
from .options import build
from .pretrained import Pretrained, PretrainedSettings
from .results import ResultSettings, outputter_name
from .rows import RowSettings, Source
from .run import RunSettings, splits
from .scene import SPLITS, Scene, Split
from .tracking import TrackingSettings

if TYPE_CHECKING:
    from .processing import Processing

AGREED = ("per_device_train_batch_size", "gradient_accumulation_steps", "max_grad_norm")
"""Settings that a DeepSpeed configuration may repeat; a trainer of another make may not have them."""
FILES_TO_OPEN = 100
"""A folder may hold thousands of files; the first ones show how they are written."""


@dataclass
class Findings:
    """What a scene will do, as far as can be told without loading a model."""

    splits: tuple[Split, ...]
    parts: dict[Split, Processing] = field(default_factory=dict)
    problem: Problem | None = None
    labels: Field | None = None
    outputter: str | None = None
    columns: tuple[str, ...] = ()
    """Of the result file."""
    notes: list[str] = field(default_factory=list)


def check(scene: Scene) -> list[str]:
    """Refuses a scene that cannot run; gives notes on what a person should know.

    Raises:
        SceneError, PluginError, DataError: what is wrong, where, and what would be right.
    """
    return examine(scene).notes


def examine(scene: Scene, live: Source | None = None) -> Findings:
    """What the scene will do; raises like `check`. With `live`, rows to predict come from there and not from files."""
    try:
        return _examine(scene, live)
    except SceneError as error:
        raise scene.placed(error) from None


def _examine(scene: Scene, live: Source | None) -> Findings:
    found = Findings(splits(scene), notes=list(scene.notes))
    if not found.splits:
        data = {split: scene.values[f"{split}_dir"].value for split in SPLITS}
        why = [f"{scene.where(f'do_{one}')} is false" if data[one] else f"{one}_dir is not set" for one in SPLITS]
        raise SceneError(f"there is nothing to do: {', '.join(why)}")
    _engine(scene)
    output_dir = scene.read(RunSettings).output_dir
    if output_dir is not None and Path(output_dir).is_file():
        raise SceneError(f"output_dir = '{output_dir}' is a file; give a folder")
    logging_dir = scene.read(TrackingSettings).logging_dir
    if logging_dir is not None and Path(logging_dir).is_file():
        raise SceneError(f"logging_dir = '{logging_dir}' is a file; give a folder")
    model = scene.read(PretrainedSettings)
    if absent(scene) is None:
        Pretrained(model)
    if model.previous_dir is not None and model.model not in (None, "local"):
        found.notes.append(f"{scene.where('previous_dir')} has no effect: model is '{model.model}', not local")
    if "train" in found.splits:
        given = [name for name, value in scene.values.items() if value.is_set]
        found.notes += lora.check(scene.read(LoraSettings), model.model or "", given)
    for split in found.splits:
        found.parts[split] = _inputs(scene, split, live)
    _feeds(scene, found)
    if absent(scene) is not None:
        refuse_tokens(found.parts.values())
    found.labels = _labels(scene, found)
    with registry.asking(scene.model, "say what it answers with"):
        found.problem = scene.model.problem(found.labels)
    _metrics(scene, found)
    _result(scene, found)
    for plugin in _plugins(scene, found):
        with registry.asking(plugin, "check the scene"):
            found.notes += plugin.check(scene, found.splits)
    return found


def _engine(scene: Scene) -> None:
    """The DeepSpeed settings go together, and with a configuration of the user's own."""
    settings = scene.read(EngineSettings)
    config = read_config(settings.deepspeed)
    check_given(config, {name: value.value for name, value in scene.values.items() if value.is_set})
    if all(name in scene.values for name in AGREED):
        per_device, accumulation, norm = (scene.values[name].value for name in AGREED)
        agree(config, per_device, accumulation, norm, scene.read(RunSettings).num_ranks)
    stage = zero_stage(config, settings.zero_stage)
    if enabled(config, "bf16", settings.bf16) is True and enabled(config, "fp16", settings.fp16):
        raise SceneError(f"fp16 is on, and so is {scene.where('bf16')}; compute in one of them")
    if settings.offload_optimizer != "none" and stage == 0:
        raise SceneError("offload_optimizer needs a zero_stage of 1 or more, and zero_stage is 0")
    if settings.offload_param != "none" and stage != 3:
        raise SceneError(f"offload_param needs zero_stage 3, and zero_stage is {stage}")
    if "nvme" in (settings.offload_optimizer, settings.offload_param):
        if stage != 3:
            raise SceneError(f"zero_stage is {stage}, but offloading to nvme needs 3")
        if settings.nvme_path is None:
            raise SceneError("nvme_path is not set; offloading to nvme needs a folder there")


def _inputs(scene: Scene, split: Split, live: Source | None) -> Processing:
    """The files, columns and processors of a split; the first rows of each file fit its header."""
    from .processing import Processing
    from .readers import chunks, parse

    if scene.values[f"{split}_dir"].value is None and live is None:
        raise SceneError(f"do_{split} is on, but {split}_dir is not set; give a file, a folder or a glob")
    for kind in ("header", "model_header"):
        if not scene.values[scene.header_setting(split, kind)].value:
            fallback = "" if split == "train" else f", and neither is {SPLITS[SPLITS.index(split) - 1]}_{kind}"
            example = "text,label" if kind == "header" else "cls_tokenize:text:tokens,convert2int:label:labels"
            raise SceneError(f"{split}_{kind} is not set{fallback}; write it like '{example}'")
    keep = scene.read(ResultSettings).result_header if split == "predict" else ()
    part = Processing(scene, split, None, keep, live)
    given, policy = part.source, scene.read(RowSettings).bad_rows
    if given.hub is not None or live is not None:
        return part
    rows = 0
    for file, kind in islice(zip(given.files, given.formats, strict=True), FILES_TO_OPEN):
        alone = Source(given.where, given.header, given.columns, (file,), (kind,))
        for chunk in islice(chunks(alone), 1):
            block = parse(alone, chunk)
            rows += len(block.rows)
            if block.rejects and (policy == "fail" or not len(block.rows)):
                raise DataError(
                    f"{block.rejects[0]}; mend the row or the header, or set bad_rows to skip or quarantine"
                )
    if not rows and split != "predict":
        raise DataError(f"{given.where} = '{scene.values[f'{split}_dir'].value}' holds no rows")
    return part


def _feeds(scene: Scene, found: Findings) -> None:
    """Every field that the task needs is given."""
    model = scene.model
    for split, part in found.parts.items():
        given = {*part.fields, *(made.mask for made in part.fields.values())}
        for name in (*model.needs, *(model.needs_to_train if split != "predict" else ())):
            if name not in given:
                where = scene.where(scene.header_setting(split, "model_header"))
                purpose = "" if name in model.needs else f" to {'train' if split == 'train' else 'be scored'}"
                raise SceneError(
                    f"{where}: {model.name} needs '{name}'{purpose}, and no item gives it; "
                    f"{_ways_to(name, part, model)}"
                )


def _ways_to(name: str, part: Processing, model: Model) -> str:
    """What to write so that a field is given, by processors that make no labels which the task cannot learn."""
    found: dict[str, bool] = {}
    for known in sorted(registry.names("processor")):
        try:
            processor = cast(Processor, build(registry.find("processor", known).plugin, {}, known))
            with registry.asking(processor):
                processor.bind(("column",) * processor.columns_in[1], "#output")
                fields = {made.name: made for made in processor.fields()}
            if name in fields:
                model.problem(fields.get("labels"))
                found[known] = draws(processor)
        except UserError:
            continue
    if fixed := sorted(found, key=lambda known: found[known]):  # what draws is for the rarer task
        return f"add an item of {' or '.join(fixed)}, such as {fixed[0]}:{part.source.columns[0]}:tokens"
    if model.elsewhere is not None:
        return f"add an item that ends in '{name}', such as basic:{part.source.columns[0]}:{name}"
    column = part.source.columns[-1]
    return f"add an item that ends in '{name}', such as convert2int:{column}:{name}"


def _labels(scene: Scene, found: Findings) -> Field | None:
    """The declared labels, which must be alike in training and evaluation."""
    kinds = {split: part.fields.get("labels") for split, part in found.parts.items() if split != "predict"}
    if not kinds and scene.settings.train_model_header:  # a model folder tells what was learned
        learns = {("processor", item.processor) for item in scene.items("train")}
        processors = scene.processors("train") if not learns & scene.unreached.keys() else []
        for one in processors:
            with registry.asking(one):
                kinds["train"] = next((made for made in one.fields() if made.name == "labels"), kinds.get("train"))
    if {"train", "eval"} <= kinds.keys():
        train, evaluated = kinds["train"], kinds["eval"]
        if train and evaluated and (train.dtype, train.shape) != (evaluated.dtype, evaluated.shape):
            where = scene.where(scene.header_setting("eval", "model_header"))
            raise SceneError(
                f"{where}: labels are {evaluated.dtype} ({evaluated.shape}), but {train.dtype} ({train.shape}) in "
                "training; use the same processor for both"
            )
    return next((labels for labels in kinds.values() if labels is not None), None)


def _metrics(scene: Scene, found: Findings) -> None:
    names = scene.settings.eval_metrics
    where, task, problem = scene.where("eval_metrics"), scene.settings.task, found.problem
    for name in names:
        if names.count(name) > 1:
            raise SceneError(f"{where} names '{name}' twice; once is enough")
    if problem is None or "eval" not in found.splits:
        if names and "train" in found.splits:
            why = "eval_dir is not set" if scene.read(RunSettings).do_eval else f"{scene.where('do_eval')} is false"
            found.notes.append(f"{where}: nothing is scored, as {why}")
        return
    classes = [name for part in found.parts.values() for name in part.class_names.get("labels", ())]
    for metric, key in scene.metrics:
        with registry.asking(metric):
            fits, own_keys = problem in metric.fits, tuple(metric.keys())
        if not fits:
            raise SceneError(
                f"{where}: {metric.name} scores {_listed(metric.fits)}, but {task} answers with {problem} here; "
                f"metrics that fit: {', '.join(_fitting('metric', problem))}"
            )
        keys = [*own_keys, *(f"{own}_{name}" for own in own_keys for name in classes)]
        later = not classes and any(key.startswith(f"{own}_") for own in own_keys)
        if key and key not in keys and not later:
            near = did_you_mean(key, keys) or f"; it has {', '.join(keys)}"
            raise SceneError(f"{where}: {metric.name} has no key '{key}'{near}")


def _result(scene: Scene, found: Findings) -> None:
    if "predict" not in found.splits or found.problem is None:
        return
    given = scene.settings.output_type
    found.outputter = outputter_name(given, found.problem)
    outputter = scene.outputter(found.outputter)
    if found.problem not in outputter.fits:
        raise SceneError(
            f"{scene.where('output_type')}: {found.outputter} writes {_listed(outputter.fits)}, but "
            f"{scene.settings.task} answers with {found.problem} here; outputters that fit: "
            f"{', '.join(_fitting('outputter', found.problem))}"
        )
    settings = scene.read(ResultSettings)
    settings.path(Path(), outputter, scene.where("result_file"))
    with registry.asking(outputter):
        found.columns = tuple(outputter.columns(found.problem, settings.result_header))


def _plugins(scene: Scene, found: Findings) -> Iterable[Plugin]:
    """Every plugin of the scene, to be asked whether its options go together."""
    yield scene.model
    if "train" in found.splits:
        yield scene.trainer
    if found.splits != ("predict",):
        yield from (metric for metric, _ in scene.metrics)
    if found.outputter is not None:
        yield scene.outputter(found.outputter)
    for part in found.parts.values():
        yield from part.processors


def _fitting(kind: str, problem: Problem) -> list[str]:
    """The plugins of a kind that fit a problem; a broken one fits nothing."""
    fitting = []
    for name in sorted(registry.names(kind)):
        try:
            plugin = registry.find(kind, name).plugin
        except PluginError:
            continue
        if problem in getattr(plugin, "fits", ()):
            fitting.append(name)
    return fitting


def _listed(problems: Iterable[Problem]) -> str:
    return ", ".join(sorted(problems)) or "nothing"
