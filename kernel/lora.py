"""LoRA through peft: low-rank matrices that learn beside frozen weights, and how they are saved and read again."""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml

from . import token_rows
from .errors import SceneError, first_line
from .options import Range
from .record import SCENE_FILE

if TYPE_CHECKING:
    import torch

    from .contracts import Problem

CONFIG = "adapter_config.json"
"""Peft's own file, which makes a model folder one of an adapter."""
WEIGHTS = "adapter_model.safetensors"
NAME = "default"
"""What peft calls an adapter that has no name."""
PREFIX = "base_model.model."
"""What peft puts before the names of weights in its files."""


@dataclass(frozen=True)
class LoraSettings:
    """What learns of the model: all of it, or low-rank matrices beside it (LoRA, arXiv 2106.09685)."""

    use_peft: bool = False
    """Freeze the weights and learn low-rank matrices beside some of them (LoRA); a classifier and new tokens whole."""
    lora_rank: Annotated[int, Range(1)] = 8
    """Rank r of the matrices A [r, in] and B [out, r]."""
    lora_alpha: Annotated[float, Range(0)] = 16.0
    """The learned change of a weight is lora_alpha / lora_rank · B A."""
    lora_dropout: Annotated[float, Range(0, 1)] = 0.0
    """Dropout in front of A."""
    lora_target_modules: tuple[str, ...] = ()
    """Layers that get matrices, by the end of their names, such as `q_proj,v_proj`; `all-linear`: all but the head. By
    default what peft has for the architecture, mostly queries and values, or all-linear where it has nothing."""
    lora_save: Literal["merged", "adapter"] = "merged"
    """merged: a plain model folder; adapter: only what was learned, in peft's form, to be laid over the same model."""


def check(settings: LoraSettings, model: str, given: Iterable[str]) -> list[str]:
    """Refuses LoRA where it cannot be; gives notes.

    Args:
        settings: the settings.
        model: what the scene calls its model.
        given: names of the settings that the scene sets.

    Raises:
        SceneError: peft is not installed, or there are weights that would have to be learned whole.
    """
    if not settings.use_peft:
        return [f"{name} has no effect, as use_peft is off" for name in given if name.startswith("lora_")]
    require("use_peft")
    if model.startswith("scratch:"):
        raise SceneError(f"use_peft: model = '{model}' has new weights, which have to be learned whole; leave it out")
    return []


def require(what: str) -> None:
    """Refuses to go on without peft.

    Raises:
        SceneError: it is not installed.
    """
    if importlib.util.find_spec("peft") is None:
        raise SceneError(f"{what} needs peft, which is not installed here; `pip install peft`, or deepgen[peft]")


@dataclass(frozen=True)
class Adapter:
    """Low-rank matrices in a module, and the weights that learn whole beside them."""

    config: Any
    heads: frozenset[str]
    settings: LoraSettings

    @classmethod
    def put_into(
        cls,
        module: torch.nn.Module,
        settings: LoraSettings,
        new_parameters: frozenset[str],
        problem: Problem,
        tokens: Sequence[int] = (),
    ) -> Adapter:
        """Puts new matrices into the module, which stays what it is, and freezes all else but head and tokens.

        The head is what no checkpoint gave; what a task has around a Hugging Face model; and, where the model answers
        with no tokens, all outside the base model. Of the embeddings those of `tokens` (ids) learn.

        Raises:
            SceneError: lora_target_modules names no linear layer.
        """
        import peft
        import torch
        from transformers.pytorch_utils import Conv1D

        models = token_rows.hugging_face_models(module)
        inside = tuple(f"{name}." if name else "" for name in models)
        heads = {name for name, _ in module.named_parameters() if name in new_parameters or not name.startswith(inside)}
        base = getattr(module, "base_model_prefix", "")
        if problem not in ("text", "masked_text") and base and hasattr(module, base):
            heads |= {name for name, _ in module.named_parameters() if not name.startswith(f"{base}.")}
        layers = {
            name: isinstance(layer, torch.nn.Linear | Conv1D)
            for name, layer in module.named_modules()
            if name and f"{name}.weight" not in heads
        }
        targets: Any = list(settings.lora_target_modules) or _usual(module) or ["all-linear"]
        if list(targets) != ["all-linear"]:
            for target in targets:
                kinds = [kind for name, kind in layers.items() if name == target or name.endswith(f".{target}")]
                if not kinds or not all(kinds):
                    raise SceneError(
                        f"lora_target_modules: '{target}' is {'no linear layer' if kinds else 'no layer'} of "
                        f"{type(module).__name__}; linear layers are {', '.join(_endings(layers))}"
                    )
        outputs = [model.get_output_embeddings() for model in models.values()]
        targets = [
            name
            for name, linear in layers.items()
            if linear
            and module.get_submodule(name) not in outputs
            and (targets == ["all-linear"] or any(name == end or name.endswith(f".{end}") for end in targets))
        ]
        alpha: Any = settings.lora_alpha  # peft says int, and takes any number
        config = peft.LoraConfig(
            r=settings.lora_rank,
            lora_alpha=alpha,
            lora_dropout=settings.lora_dropout,
            target_modules=targets,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # GPT-2 keeps its weights transposed, which peft finds out and says
            peft.inject_adapter_in_model(config, module)
        for name, parameter in module.named_parameters():
            if name in heads:
                parameter.requires_grad_(True)
        if tokens:
            token_rows.put_into(module, sorted(tokens))
        return cls(config, frozenset(heads), settings)

    def merged(self, module: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The weights of the module as it was before, W + lora_alpha / lora_rank · B A, by their own names."""
        plain: dict[str, torch.Tensor] = {}
        for name, value in state.items():
            if ".lora_" in name:
                continue
            layer_name, found, rest = name.rpartition(".base_layer.")
            if found and rest == "weight":
                layer: Any = module.get_submodule(layer_name)
                a, b = (state[f"{layer_name}.lora_{part}.{NAME}.weight"] for part in "AB")
                change = (b @ a) * layer.scaling[NAME]
                value = value + (change.T if layer.fan_in_fan_out else change)
            plain[f"{layer_name}.{rest}" if found else name] = value
        return token_rows.merged(module, plain)

    def save(self, module: torch.nn.Module, state: Mapping[str, torch.Tensor], folder: Path, base: str) -> None:
        """Writes matrices, head and tokens in peft's form, and the model's config, into a folder.

        Args:
            module: its Hugging Face model gives its config.
            state: all weights.
            folder: it exists.
            base: the folder or hub id of the model underneath.
        """
        from safetensors.torch import save_file

        owner = next(iter(token_rows.hugging_face_models(module).values()))
        owner.config.save_pretrained(folder)
        if getattr(owner, "generation_config", None) is not None:
            owner.generation_config.save_pretrained(folder)
        self.config.base_model_name_or_path = str(Path(base).resolve()) if Path(base).is_dir() else base
        self.config.inference_mode = True
        self.config.modules_to_save = sorted({name.rpartition(".")[0] for name in self.heads}) or None
        tokens = token_rows.learned(module)
        self.config.trainable_token_indices = tokens or None
        self.config.save_pretrained(folder)
        learned = {
            PREFIX + name.replace(f".{NAME}.", "."): value.contiguous()
            for name, value in state.items()
            if ".lora_" in name or name in self.heads
        }
        rows = {f"{PREFIX}{name}.{token_rows.SAVED}": state[f"{name}.{token_rows.NAME}"] for name in tokens}
        save_file({**learned, **rows}, folder / WEIGHTS, metadata={"format": "pt"})


def base_of(folder: Path) -> str | None:
    """What the model under an adapter is called in a scene; None where the folder is none of an adapter."""
    file = folder / CONFIG
    if not file.is_file():
        return None
    require(f"model = '{folder}' is an adapter and")
    scene = folder / SCENE_FILE
    named = yaml.safe_load(scene.read_text(encoding="utf-8")).get("model") if scene.is_file() else None
    if isinstance(named, str) and named.startswith("package:"):
        return named  # another machine has it in another folder
    return str(json.loads(file.read_text(encoding="utf-8"))["base_model_name_or_path"])


def lay_over(module: torch.nn.Module, folder: Path) -> torch.nn.Module:
    """The module with the adapter of a folder merged into its weights, and that folder's generation settings.

    Raises:
        SceneError: the adapter does not fit the module.
    """
    import peft
    from safetensors.torch import load_file
    from transformers import GenerationConfig

    try:
        config: Any = peft.PeftConfig.from_pretrained(str(folder))
        # peft asks a module of a task's own for what only a Hugging Face model has
        tokens, config.trainable_token_indices = config.trainable_token_indices or {}, None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            merged: Any = peft.PeftModel.from_pretrained(module, str(folder), config=config).merge_and_unload()
        saved = load_file(folder / WEIGHTS) if tokens else {}
        rows = {name: saved[f"{PREFIX}{name}.{token_rows.SAVED}"] for name in tokens}
        token_rows.lay_over(merged, tokens, rows)
    except (RuntimeError, ValueError, KeyError, AttributeError, IndexError) as error:
        raise SceneError(
            f"model: the adapter in {folder} does not fit the model under it: {first_line(error)}"
        ) from None
    if (folder / "generation_config.json").is_file():
        owner = next(iter(token_rows.hugging_face_models(merged).values()))
        owner.generation_config = GenerationConfig.from_pretrained(str(folder))
    for parameter in merged.parameters():
        parameter.requires_grad_(True)
    return merged  # type: ignore[no-any-return]


def _usual(module: torch.nn.Module) -> list[str]:
    """The layers that peft takes for the architecture, as far as the module, which may be of one's own, has them."""
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    owner = next(iter(token_rows.hugging_face_models(module).values()))
    known = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(owner.config.model_type)
    there = {name.rpartition(".")[2] for name, _ in module.named_modules()}
    return [name for name in known if name in there] if isinstance(known, list) else []


def _endings(layers: Mapping[str, bool]) -> list[str]:
    return sorted({name.rpartition(".")[2] for name, linear in layers.items() if linear})
