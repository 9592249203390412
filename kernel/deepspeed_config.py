"""The DeepSpeed configuration of a run: the settings, and over them the user's own with its `"auto"` values filled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import SceneError

if TYPE_CHECKING:
    from .engine import EngineSettings
    from .training import Optimization


def read_config(given: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """The user's own configuration, from a mapping of the scene or a JSON file; empty when there is none.

    Raises:
        SceneError: no such file, or no JSON object in it.
    """
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return dict(given)
    path = Path(given)
    if not path.is_file():
        raise SceneError(f"deepspeed: {path}: no such file")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SceneError(f"deepspeed: {path}: not JSON: {error}") from None
    if not isinstance(content, dict):
        raise SceneError(f"deepspeed: {path}: not a JSON object of settings")
    return content


def training_config(
    settings: EngineSettings,
    optimization: Optimization,
    *,
    dtype: str,
    ranks: int,
    per_device: int,
    accumulation: int,
    total_steps: int,
) -> dict[str, Any]:
    """What DeepSpeed is given: our settings, with the user's own configuration over them.

    Raises:
        SceneError: a value of the configuration that contradicts a setting.
    """
    config = read_config(settings.deepspeed)
    fixed: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": per_device,
        "gradient_accumulation_steps": accumulation,
        "train_batch_size": per_device * accumulation * ranks,
        "gradient_clipping": optimization.max_grad_norm,
    }
    names = {
        "train_micro_batch_size_per_gpu": "per_device_train_batch_size",
        "gradient_accumulation_steps": "gradient_accumulation_steps",
        "train_batch_size": "per_device_train_batch_size x gradient_accumulation_steps x ranks",
        "gradient_clipping": "max_grad_norm",
    }
    for key, value in fixed.items():
        theirs = config.get(key, "auto")
        if theirs not in ("auto", value):
            raise SceneError(
                f"deepspeed: {key} is {theirs}, but {names[key]} is {value}; make them equal, or write 'auto'"
            )
    stage = config.get("zero_optimization", {}).get("stage", "auto")
    stage = settings.zero_stage if stage == "auto" else stage
    zero: dict[str, Any] = {"stage": stage}
    if settings.offload_optimizer != "none":
        zero["offload_optimizer"] = {"device": settings.offload_optimizer, "pin_memory": True}
    if settings.offload_param != "none":
        zero["offload_param"] = {"device": settings.offload_param, "pin_memory": True}
    for part in ("offload_optimizer", "offload_param"):
        if zero.get(part, {}).get("device") == "nvme":
            zero[part]["nvme_path"] = settings.nvme_path
    ours: dict[str, Any] = {
        **fixed,
        "zero_optimization": zero,
        "bf16": {"enabled": dtype == "bfloat16"},
        "fp16": {"enabled": dtype == "float16"},
        # Sums over ranks in float32, so that they do not depend on the number of ranks more than rounding does.
        "communication_data_type": "fp32",
        "timers": {"throughput": {"enabled": False}},
    }
    if dtype == "bfloat16" and accumulation > 1 and stage > 0:
        ours["data_types"] = {"grad_accum_dtype": "fp32"}
    auto: dict[str, Any] = {
        "optimizer": {
            "params": {
                "lr": optimization.learning_rate,
                "betas": [optimization.adam_beta1, optimization.adam_beta2],
                "eps": optimization.adam_epsilon,
                "weight_decay": optimization.weight_decay,
            }
        },
        "scheduler": {
            "params": {
                "warmup_min_lr": 0.0,
                "warmup_max_lr": optimization.learning_rate,
                "warmup_num_steps": optimization.warmup_steps,
                "total_num_steps": total_steps,
            }
        },
    }
    return _merge(ours, config, auto)


def _merge(ours: Mapping[str, Any], theirs: Mapping[str, Any], auto: Mapping[str, Any]) -> dict[str, Any]:
    """Theirs over ours. Their `"auto"` becomes ours; where we have no say the key goes, for DeepSpeed's default."""
    merged = dict(ours)
    for key, value in theirs.items():
        if isinstance(value, Mapping):
            merged[key] = _merge(ours.get(key, {}), value, auto.get(key, {}))
        elif value != "auto":
            merged[key] = value
        elif key in auto:
            merged[key] = auto[key]
    return merged
