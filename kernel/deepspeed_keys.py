"""The keys of a DeepSpeed configuration, so that `check` knows a wrong one without importing DeepSpeed.

DeepSpeed itself takes an unknown block without a word. A test compares this table with the installed DeepSpeed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import SceneError, did_you_mean

Keys = Mapping[str, Any]
"""Key → the keys of its block, or None: a value, or a block that is free in its keys."""


def _values(names: str) -> dict[str, None]:
    return dict.fromkeys(names.split())


_STAGE3 = (
    "prefetch_bucket_size param_persistence_threshold model_persistence_threshold max_live_parameters "
    "max_reuse_distance gather_16bit_weights_on_model_save module_granularity_threshold "
    "use_all_reduce_for_fetch_params allgather_sequential"
)
_ZERO: Keys = {
    **_values(
        "stage contiguous_gradients reduce_scatter reduce_bucket_size use_multi_rank_bucket_allreduce "
        "allgather_partitions allgather_bucket_size overlap_comm compute_grad_norm load_from_fp32_weights "
        "elastic_checkpoint sub_group_size cpu_offload_param cpu_offload_use_pin_memory cpu_offload "
        "stage3_gather_fp16_weights_on_model_save ignore_unused_parameters legacy_stage1 round_robin_gradients "
        "parameter_alignment zero_hpz_partition_size zero_quantized_weights zero_quantized_nontrainable_weights "
        "zero_quantized_gradients memory_efficient_linear pipeline_loading_checkpoint override_module_apply "
        "log_trace_cache_warnings enable_sanity_checks save_muon_momentum_buffer_in_memory"
    ),
    **_values(_STAGE3),
    **_values(" ".join(f"stage3_{name}" for name in _STAGE3.split())),
    "offload_param": _values("device nvme_path buffer_count buffer_size max_in_cpu pin_memory"),
    "offload_optimizer": _values(
        "device nvme_path buffer_count pin_memory pipeline_read pipeline_write fast_init ratio super_offload "
        "cpuadam_cores_perc"
    ),
    "zenflow": _values(
        "topk_ratio select_strategy select_interval update_interval overlap_step offload auto_ratio "
        "full_warm_up_rounds pt_reserved_cores_perc steps_per_epoch"
    ),
    "leaf_module": _values("classes names name_suffixes"),
}
_MONITOR = "enabled output_path job_name"
_COMPILE = (
    "deepcompile autoep_non_moe free_activation free_activation_threshold offload_activation "
    "offload_activation_pin_memory offload_opt_states double_buffer symmetric_memory debug_log offload_parameters "
    "sync_before_reduce sync_after_reduce sync_before_allgather sync_after_allgather keep_int_input_tensors "
    "keep_all_input_tensors passes"
)
KEYS: Keys = {
    **_values(
        "train_batch_size train_micro_batch_size_per_gpu gradient_accumulation_steps managed_gradient_accumulation "
        "gradient_clipping prescale_gradients gradient_predivide_factor gradient_allreduce_op communication_data_type "
        "seq_parallel_communication_data_type sequence_parallel_size data_parallel_size steps_per_print "
        "wall_clock_breakdown memory_breakdown dump_state log_level disable_allgather disable_python_gc "
        "dataloader_drop_last zero_allow_untested_optimizer zero_force_ds_cpu_optimizer vocabulary_size "
        "use_data_before_expert_parallelism data_efficiency autotuning expert_parallel tensor_parallel pipeline "
        "weight_quantization datastates_ckpt"
    ),
    "optimizer": _values("type params legacy_fusion"),
    "scheduler": _values("type params"),
    "zero_optimization": _ZERO,
    "bf16": _values(
        "enabled immediate_grad_update check_grad_overflow bf16_master_weights_and_grads bf16_optimizer_states"
    ),
    "fp16": _values(
        "enabled auto_cast loss_scale initial_scale_power loss_scale_window hysteresis consecutive_hysteresis "
        "min_loss_scale fp16_master_weights_and_grads"
    ),
    "torch_autocast": _values("enabled dtype lower_precision_safe_modules"),
    "data_types": _values("grad_accum_dtype param_dtype buffer_dtype keep_in_fp32_modules"),
    "activation_checkpointing": _values(
        "partition_activations number_checkpoints contiguous_memory_optimization synchronize_checkpoint_boundary "
        "profile cpu_checkpointing"
    ),
    "aio": _values("block_size queue_depth intra_op_parallelism single_submit overlap_events use_gds"),
    "checkpoint": _values(
        "tag_validation load_universal use_node_local_storage parallel_write checkpoint_serialization writer"
    ),
    "flops_profiler": _values(
        "enabled recompute_fwd_factor profile_step module_depth top_modules detailed output_file"
    ),
    "timers": {"throughput": _values("enabled synchronized")},
    "comms_logger": _values("enabled prof_all prof_ops verbose debug"),
    "tensorboard": _values(_MONITOR),
    "csv_monitor": _values(_MONITOR),
    "wandb": _values("enabled group team project"),
    "comet": _values(
        "enabled samples_log_interval project workspace api_key experiment_name experiment_key online mode"
    ),
    "hybrid_engine": _values(
        "enabled max_out_tokens inference_tp_size release_inference_cache pin_parameters tp_gather_partition_size "
        "enable_cuda_graph"
    ),
    "compile": _values(_COMPILE),
}
REMOVED: Mapping[str, str] = {
    "bfloat16": "is now called 'bf16'",
    "nebula": "was removed from DeepSpeed; checkpoints are written by this run",
    "compression_training": "was removed from DeepSpeed; leave it out",
    "amp": "was removed from DeepSpeed; use bf16 or fp16",
    "quantize_training": "was removed from DeepSpeed; leave it out",
    "sparse_gradients": "was removed from DeepSpeed; leave it out",
    "eigenvalue": "was removed from DeepSpeed; leave it out",
    "sparse_attention": "was removed from DeepSpeed; leave it out",
    "elasticity": "was removed from DeepSpeed; to go on with other ranks, start from the model folder",
    "graph_harvesting": "was removed from DeepSpeed; leave it out",
    "curriculum_learning": "was removed from DeepSpeed; leave it out",
    "progressive_layer_drop": "was removed from DeepSpeed; leave it out",
    "mics_shard_size": "was removed from DeepSpeed; leave it out",
    "mics_hierarchical_params_gather": "was removed from DeepSpeed; leave it out",
    "zeropp_loco_param": "was removed from DeepSpeed; leave it out",
}
"""Keys that DeepSpeed once had, and what to do instead."""


def check_keys(config: Mapping[str, Any], keys: Keys = KEYS, block: str = "") -> None:
    """Refuses what DeepSpeed would not know.

    Raises:
        SceneError: naming the key, its block and the nearest key that there is.
    """
    place = f"deepspeed: {block}: " if block else "deepspeed: "
    for key, value in config.items():
        if key not in keys:
            if key in REMOVED:
                raise SceneError(f"{place}'{key}' {REMOVED[key]}")
            near = did_you_mean(key, keys) or "; see DeepSpeed's documentation of its configuration"
            raise SceneError(f"{place}there is no key '{key}'{near}")
        inner = keys[key]
        if inner is not None and value != "auto":
            if not isinstance(value, Mapping):
                raise SceneError(f"{place}'{key}' is a block of settings, such as {next(iter(inner))}")
            check_keys(value, inner, f"{block}.{key}" if block else key)
