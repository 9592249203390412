"""What the original's argument files mean: settings that are written there are read as the original read them."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace
from pathlib import Path

from .sources import Given

YAML = (".yaml", ".yml")
OF_EVERY_SCENE = frozenset({"label_mapping", "max_length", "output_mapping", "sen_sep", "tok_max_length"})
"""Settings that the original took in any scene, whether something read them or not."""
STRATEGIES = {
    "save_steps": ("save_strategy",),
    "eval_steps": ("eval_strategy", "evaluation_strategy"),
}
"""The number of steps → the setting that says whether they are counted."""


def is_argument_file(path: Path | None) -> bool:
    """Whether a scene is a file of `--name value` tokens."""
    return path is not None and path.suffix not in YAML


def as_meant(given: Sequence[Given], notes: list[str]) -> list[Given]:
    """The settings of an argument file and of the command line, with what the original took for granted written out.

    - Of training and prediction only what is asked for is done, where one of them is; evaluation is part of training.
    - Prediction reads eval_dir, unless there is a predict_dir.
    - `save_steps` and `eval_steps` are counted: saving and evaluating go by steps.
    - A model whose name begins with `local` is the one in previous_dir.
    """
    last = {item.name: item for item in given}
    more: list[Given] = []
    asked = [last[name] for name in ("do_train", "do_predict") if name in last]
    for name in ("do_train", "do_predict") if asked else ():
        if name not in last and not (name == "do_predict" and "predict_dir" in last):
            last[name] = replace(asked[0], name=name, raw="false")
            more.append(last[name])
    if asked and "do_eval" not in last and not _is_on(last["do_train"]):
        more.append(replace(last["do_train"], name="do_eval", raw="false"))
    if asked and more:
        off = " and ".join(item.name for item in more)
        notes.append(f"{asked[0].place}: what is not asked for beside it stays off, as in the original: {off}")
    if "do_predict" in last and _is_on(last["do_predict"]) and "predict_dir" not in last and "eval_dir" in last:
        more.append(replace(last["eval_dir"], name="predict_dir"))
        notes.append(f"{last['eval_dir'].place} is what is predicted too, as in the original: predict_dir")
    for every, names in STRATEGIES.items():
        counts = every in last and (every != "eval_steps" or "eval_dir" in last)
        if counts and not any(name in last for name in names):
            more.append(replace(last[every], name=names[0], raw="steps"))
    model, before = last.get("model"), last.get("previous_dir")
    if model is not None and before is not None and str(model.raw).startswith("local") and model.raw != "local":
        more.append(replace(model, raw="local"))
        notes.append(
            f"{model.place} = {model.shown} means previous_dir, as it begins with 'local'; here only local does"
        )
    return [*given, *more]


def leave_out(given: Sequence[Given], declared: Container[str], notes: list[str]) -> list[Given]:
    """The settings that remain when those are gone that nothing in this scene reads; adds a note for each."""
    rest = []
    for item in given:
        meanings = ("target_max_length", "max_new_tokens") if item.name == "max_length" else (item.name,)
        if item.file and item.name in OF_EVERY_SCENE and not any(name in declared for name in meanings):
            notes.append(f"{item.place} is left out: nothing in this scene reads it, as in the original")
        else:
            rest.append(item)
    return rest


def _is_on(item: Given) -> bool:
    return str(item.raw).strip().lower() in ("true", "yes", "on", "1")
