"""The user's own DeepSpeed configuration: checked without DeepSpeed, filled from settings, and known to DeepSpeed."""

from __future__ import annotations

import json
import typing
from pathlib import Path
from typing import Any

import pytest

from deepgen.kernel import deepspeed_keys
from deepgen.kernel.deepspeed_config import (
    BUCKET,
    agree,
    check_given,
    compute_dtype,
    read_config,
    training_config,
    zero_stage,
)
from deepgen.kernel.engine import EngineSettings
from deepgen.kernel.errors import SceneError
from deepgen.kernel.training import Optimization

OPTIMIZATION = Optimization(learning_rate=1e-3, weight_decay=0.1, max_grad_norm=1.0, warmup_steps=7)


def config(
    own: Any = None, dtype: str = "float32", accumulation: int = 2, on_gpu: bool = True, **settings: Any
) -> dict[str, Any]:
    return training_config(
        EngineSettings(deepspeed=own, **settings),
        OPTIMIZATION,
        dtype=dtype,
        ranks=2,
        per_device=4,
        accumulation=accumulation,
        total_steps=100,
        on_gpu=on_gpu,
    )


def test_settings_alone_make_a_configuration() -> None:
    made = config(zero_stage=2)
    assert made["train_batch_size"] == 16
    assert made["zero_optimization"] == {"stage": 2}
    assert made["gradient_clipping"] == 1.0
    assert not made["bf16"]["enabled"]
    assert made["communication_data_type"] == "fp32"


def test_cpu_ranks_exchange_small_buckets_in_the_type_they_compute_in() -> None:
    made = config(on_gpu=False, zero_stage=2, dtype="bfloat16")
    assert made["zero_optimization"] == {"stage": 2, "reduce_bucket_size": BUCKET, "allgather_bucket_size": BUCKET}
    assert made["communication_data_type"] == "bf16"
    own = {"zero_optimization": {"reduce_bucket_size": 1000, "allgather_bucket_size": "auto"}}
    made = config(own, on_gpu=False, zero_stage=2)
    assert made["zero_optimization"] == {"stage": 2, "reduce_bucket_size": 1000, "allgather_bucket_size": BUCKET}
    assert "reduce_bucket_size" not in config(on_gpu=False, zero_stage=0)["zero_optimization"]


def test_float16_is_for_gpus() -> None:
    import torch

    half = EngineSettings(fp16=True)
    with pytest.raises(SceneError, match="fp16: float16 training needs a GPU; on a CPU use bf16"):
        compute_dtype(half, {}, torch.device("cpu"))
    assert compute_dtype(half, {}, torch.device("cuda")) is torch.float16
    assert compute_dtype(EngineSettings(bf16=False), {"fp16": {"enabled": True}}, torch.device("cuda")) is torch.float16
    assert compute_dtype(EngineSettings(bf16=False), {}, torch.device("cpu")) is torch.float32
    assert config(dtype="float16")["fp16"]["enabled"]


def test_bf16_accumulates_in_float32_where_deepspeed_can() -> None:
    assert config(dtype="bfloat16")["data_types"] == {"grad_accum_dtype": "fp32"}
    assert "data_types" not in config(dtype="bfloat16", zero_stage=0)
    assert "data_types" not in config(dtype="bfloat16", accumulation=1)


def test_auto_is_filled_and_the_rest_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "ds.json"
    file.write_text(
        json.dumps(
            {
                "train_micro_batch_size_per_gpu": "auto",
                "train_batch_size": 16,
                "gradient_clipping": "auto",
                "zero_optimization": {"stage": 3, "reduce_bucket_size": "auto", "overlap_comm": False},
                "bf16": "auto",
                "optimizer": {"type": "AdamW", "params": {"lr": "auto", "betas": "auto", "eps": 1e-6}},
                "scheduler": {
                    "type": "WarmupDecayLR",
                    "params": {"warmup_num_steps": "auto", "total_num_steps": "auto", "warmup_max_lr": "auto"},
                },
            }
        )
    )
    made = config(str(file))
    assert made["train_micro_batch_size_per_gpu"] == 4
    assert made["zero_optimization"] == {"stage": 3, "overlap_comm": False}
    assert made["bf16"] == {"enabled": False}
    assert made["optimizer"]["params"] == {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-6}
    assert made["scheduler"]["params"] == {"warmup_num_steps": 7, "total_num_steps": 100, "warmup_max_lr": 1e-3}


def test_offload_settings_become_blocks() -> None:
    made = config(zero_stage=3, offload_optimizer="nvme", offload_param="cpu", nvme_path="/fast")
    assert made["zero_optimization"]["offload_optimizer"] == {
        "device": "nvme",
        "pin_memory": True,
        "nvme_path": "/fast",
    }
    assert made["zero_optimization"]["offload_param"]["device"] == "cpu"


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"zero_optimisation": {"stage": 2}}, "there is no key 'zero_optimisation'; did you mean 'zero_optimization'?"),
        ({"zero_optimization": {"stge": 2}}, "zero_optimization: there is no key 'stge'; did you mean 'stage'?"),
        ({"zero_optimization": {"offload_param": {"devise": "cpu"}}}, "zero_optimization.offload_param: there is no"),
        ({"zero_optimization": 2}, "'zero_optimization' is a block of settings, such as stage"),
        ({"elasticity": {"enabled": True}}, "'elasticity' was removed from DeepSpeed"),
        ({"bfloat16": {"enabled": True}}, "'bfloat16' is now called 'bf16'"),
        ("nowhere.json", "no such file"),
    ],
)
def test_what_deepspeed_would_not_know_is_refused(own: Any, message: str) -> None:
    with pytest.raises(SceneError, match=r"^deepspeed: ") as error:
        read_config(own)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"train_micro_batch_size_per_gpu": 8}, "train_micro_batch_size_per_gpu is 8, but per_device_train_batch_size"),
        ({"gradient_accumulation_steps": 1}, "gradient_accumulation_steps is 1, but gradient_accumulation_steps is 2"),
        ({"gradient_clipping": 0.5}, "gradient_clipping is 0.5, but max_grad_norm is 1"),
        ({"train_batch_size": 64}, "train_batch_size is 64, but per_device_train_batch_size x"),
    ],
)
def test_numbers_that_contradict_a_setting_name_both(own: dict[str, Any], message: str) -> None:
    with pytest.raises(SceneError) as error:
        agree(own, per_device=4, accumulation=2, max_grad_norm=1.0, ranks=2)
    assert message in str(error.value)


def test_defaults_give_way_and_given_settings_do_not() -> None:
    own = {"zero_optimization": {"stage": 2}, "bf16": {"enabled": True}}
    check_given(own, {})
    check_given(own, {"zero_stage": 2, "bf16": "auto"})
    assert zero_stage(own, 1) == 2
    with pytest.raises(SceneError, match=r"zero_optimization.stage is 2, but zero_stage is 1"):
        check_given(own, {"zero_stage": 1})
    with pytest.raises(SceneError, match=r"bf16.enabled is true, but bf16 is false"):
        check_given(own, {"bf16": False})


def keys_of(model: Any) -> dict[str, Any]:
    """The keys of one of DeepSpeed's own models, with those of the models in it."""
    from pydantic import BaseModel

    def inner(annotation: Any) -> Any:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return keys_of(annotation)
        return next((found for part in typing.get_args(annotation) if (found := inner(part)) is not None), None)

    return {
        name: inner(field.annotation)
        for own_name, field in model.model_fields.items()
        for name in {own_name, field.alias or own_name}
    }


def test_the_table_is_that_of_the_installed_deepspeed() -> None:
    config = pytest.importorskip("deepspeed.runtime.config")
    from deepspeed.comm.config import CommsLoggerConfig
    from deepspeed.monitor import config as monitor
    from deepspeed.runtime import constants
    from deepspeed.runtime.precision_config import DeepSpeedBF16Config, DeepSpeedFP16Config
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
    from deepspeed.utils.config import DeepSpeedThroughputTimerConfig

    table = deepspeed_keys.KEYS
    blocks = {
        "zero_optimization": DeepSpeedZeroConfig,
        "bf16": DeepSpeedBF16Config,
        "fp16": DeepSpeedFP16Config,
        "hybrid_engine": config.HybridEngineConfig,
        "compile": config.CompileConfig,
        "comms_logger": CommsLoggerConfig,
        "tensorboard": monitor.TensorBoardConfig,
        "csv_monitor": monitor.CSVConfig,
        "wandb": monitor.WandbConfig,
        "comet": monitor.CometConfig,
    }
    for name, model in blocks.items():
        assert table[name] == keys_of(model), name
    assert table["timers"] == {"throughput": keys_of(DeepSpeedThroughputTimerConfig)}
    removed = {*config._REMOVED_TOP_LEVEL_CONFIG_KEYS, *config._REMOVED_ZERO_CONFIG_KEYS}
    assert removed | {"bfloat16"} == set(deepspeed_keys.REMOVED)
    assert constants.MANAGED_GRADIENT_ACCUMULATION in table
