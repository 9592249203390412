"""The DeepSpeed configuration of a run: the settings, and over them the user's own with its `"auto"` values filled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .deepspeed_keys import check_keys
from .errors import SceneError
from .ranks import has_bf16

if TYPE_CHECKING:
    import torch

    from .engine import EngineSettings
    from .training import Optimization


def read_config(given: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """The user's own configuration, from a mapping of the scene or a JSON file; empty when there is none.

    Raises:
        SceneError: no such file, no JSON object in it, or a key that DeepSpeed does not have.
    """
    if given is None:
        return {}
    if isinstance(given, Mapping):
        check_keys(given)
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
    check_keys(content)
    return content


def zero_stage(config: Mapping[str, Any], setting: int) -> int:
    """The ZeRO stage in force: that of the configuration where it has one, else the setting."""
    stage = _block(config, "zero_optimization").get("stage", "auto")
    if stage == "auto":
        return setting
    if stage not in (0, 1, 2, 3):
        raise SceneError(f"deepspeed: zero_optimization.stage is {stage}; it is 0, 1, 2 or 3")
    return int(stage)


def enabled(config: Mapping[str, Any], block: str, setting: Any) -> Any:
    """Whether bf16 or fp16 is on: as the configuration says where it says something, else the setting."""
    value = _block(config, block).get("enabled", "auto")
    return setting if value == "auto" else value


def compute_dtype(settings: EngineSettings, config: dict[str, Any], device: torch.device) -> torch.dtype:
    """What is computed in: the user's own configuration decides, else bf16 and fp16.

    Raises:
        SceneError: float16 without a GPU.
    """
    import torch

    bf16 = enabled(config, "bf16", settings.bf16)
    if enabled(config, "fp16", settings.fp16):
        if device.type == "cpu":
            raise SceneError("fp16: float16 training needs a GPU; on a CPU use bf16, or neither for float32")
        return torch.float16
    return torch.bfloat16 if bf16 is True or (bf16 == "auto" and has_bf16(device)) else torch.float32


def _block(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    block = config.get(name, {})
    return {} if block == "auto" else block


def agree(
    config: Mapping[str, Any], per_device: int, accumulation: int, max_grad_norm: float, ranks: int | None = None
) -> None:
    """Compares the numbers that both the configuration and the settings have.

    Raises:
        SceneError: naming both, when they differ.
    """
    numbers: dict[str, tuple[str, float]] = {
        "train_micro_batch_size_per_gpu": ("per_device_train_batch_size", per_device),
        "gradient_accumulation_steps": ("gradient_accumulation_steps", accumulation),
        "gradient_clipping": ("max_grad_norm", max_grad_norm),
    }
    if ranks is not None:
        name = "per_device_train_batch_size x gradient_accumulation_steps x ranks"
        numbers["train_batch_size"] = (name, per_device * accumulation * ranks)
    for key, (name, value) in numbers.items():
        theirs = config.get(key, "auto")
        if theirs not in ("auto", value):
            raise SceneError(f"deepspeed: {key} is {theirs}, but {name} is {value:g}; make them equal, or write 'auto'")


def check_given(config: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Compares the configuration with the settings that the user gave beside it (not with defaults, which give way).

    Raises:
        SceneError: naming both, when they differ.
    """
    for block, key, setting in (
        ("zero_optimization", "stage", "zero_stage"),
        ("bf16", "enabled", "bf16"),
        ("fp16", "enabled", "fp16"),
    ):
        theirs, ours = _block(config, block).get(key, "auto"), given.get(setting, "auto")
        if "auto" not in (theirs, ours) and theirs != ours:
            raise SceneError(
                f"deepspeed: {block}.{key} is {str(theirs).lower()}, but {setting} is {str(ours).lower()}; "
                "make them equal, or write 'auto'"
            )


BUCKET = 4_000_000
"""Elements that ranks on CPUs exchange at once: 16 MB, which the C library keeps for the next step."""


def training_config(
    settings: EngineSettings,
    optimization: Optimization,
    *,
    dtype: str,
    ranks: int,
    per_device: int,
    accumulation: int,
    total_steps: int,
    on_gpu: bool = False,
) -> dict[str, Any]:
    """What DeepSpeed is given: our settings, with the user's own configuration over them.

    Raises:
        SceneError: a value of the configuration that contradicts a setting.
    """
    config = read_config(settings.deepspeed)
    agree(config, per_device, accumulation, optimization.max_grad_norm, ranks)
    stage = zero_stage(config, settings.zero_stage)
    zero: dict[str, Any] = {"stage": stage}
    if not on_gpu and stage:
        # One bucket of all gradients, as a GPU likes it, is memory that the system has to clear anew in every step.
        zero.update(reduce_bucket_size=BUCKET, allgather_bucket_size=BUCKET)
    if settings.offload_optimizer != "none":
        zero["offload_optimizer"] = {"device": settings.offload_optimizer, "pin_memory": True}
    if settings.offload_param != "none":
        zero["offload_param"] = {"device": settings.offload_param, "pin_memory": True}
    for part in ("offload_optimizer", "offload_param"):
        if zero.get(part, {}).get("device") == "nvme":
            zero[part]["nvme_path"] = settings.nvme_path
    ours: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": per_device,
        "gradient_accumulation_steps": accumulation,
        "train_batch_size": per_device * accumulation * ranks,
        "gradient_clipping": optimization.max_grad_norm,
        "zero_optimization": zero,
        "bf16": {"enabled": dtype == "bfloat16"},
        "fp16": {"enabled": dtype == "float16"},
        # Gradients travel as they were computed; those of float16 in float32, as their sum may be too large for it.
        "communication_data_type": "bf16" if dtype == "bfloat16" else "fp32",
        "timers": {"throughput": {"enabled": False}},
        # Torch's fused AdamW does for offloaded states too; DeepSpeed's own would have to be compiled first.
        "zero_force_ds_cpu_optimizer": False,
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
