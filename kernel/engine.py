"""THE file that knows DeepSpeed: joins the ranks, trains step by step, saves, loads and talks between ranks."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from .deepspeed_config import compute_dtype, read_config, training_config, zero_stage
from .errors import RunError, SceneError
from .options import InputPath
from .ranks import Ranks, join
from .training import Optimization, StepResult, checkpoint_gradients

if TYPE_CHECKING:
    import torch

    from .batches import MicroBatch
    from .contracts import Batch, Loss

TAG = "engine"
"""The name DeepSpeed gives its part of a checkpoint."""


@dataclass(frozen=True)
class EngineSettings:
    """How DeepSpeed trains."""

    zero_stage: Literal[0, 1, 2, 3] = 1
    """What the ranks share: 0 nothing, 1 optimizer states, 2 also gradients, 3 also weights."""
    bf16: Literal["auto"] | bool = "auto"
    """Compute in bfloat16, with float32 master weights; auto: where the CPU or GPU has bfloat16 arithmetic."""
    fp16: bool = False
    """Compute in float16 with loss scaling; for GPUs without bfloat16."""
    offload_optimizer: Literal["none", "cpu", "nvme"] = "none"
    """Keep optimizer states, and update weights, in the host's memory (zero_stage 1 to 3) or on NVMe (zero_stage 3)."""
    offload_param: Literal["none", "cpu", "nvme"] = "none"
    """Keep weights there too (zero_stage 3); offloading frees a GPU's memory and gains nothing on a CPU."""
    nvme_path: Annotated[str | None, InputPath] = None
    """The folder on NVMe for offloading."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: less memory, about a third slower."""
    deepspeed: Annotated[dict[str, Any] | str | None, InputPath] = None
    """A DeepSpeed configuration of your own, a mapping or a JSON file; `"auto"` values are filled from the settings."""


@dataclass
class Engine(Ranks):
    """This rank's place among the ranks, and the model on its device."""

    settings: EngineSettings
    dtype: torch.dtype
    config: dict[str, Any] = field(default_factory=dict)
    """What DeepSpeed was given, once `prepare` has run."""
    _module: torch.nn.Module | None = None
    _engine: Any = None
    _clips: bool = False
    """The gradients are clipped here: DeepSpeed's own clipping at stage 0 in float32 keeps their norm to itself."""

    @classmethod
    def start(cls, settings: EngineSettings) -> Engine:
        """Joins the ranks: through the launcher's environment, our own rendezvous file, or alone.

        Raises:
            SceneError: settings that exclude each other or that this machine cannot do.
        """
        config = read_config(settings.deepspeed)
        here = join()
        if here.device.type == "cpu":
            os.environ.setdefault("DS_ACCELERATOR", "cpu")
        dtype = compute_dtype(settings, config, here.device)
        return cls(here.rank, here.ranks, here.local_rank, here.device, settings, dtype, config)

    @property
    def zero_stage(self) -> int:
        """The stage in force: that of the user's own configuration, or the setting."""
        return zero_stage(self.config, self.settings.zero_stage)

    def prepare(
        self,
        module: torch.nn.Module,
        optimization: Optimization,
        *,
        total_steps: int,
        per_device: int,
        accumulation: int,
        new_parameters: frozenset[str] = frozenset(),
    ) -> None:
        """Hands the module to DeepSpeed for training; from here on all ranks hold rank 0's weights.

        Args:
            module: on the CPU or the device, float32.
            optimization: learning rates, decay and schedule.
            total_steps: optimizer steps that the schedule spans.
            per_device: rows in a micro batch of one rank.
            accumulation: micro batches a step.
            new_parameters: names that learn at `head_learning_rate`.
        """
        if self.settings.gradient_checkpointing:
            checkpoint_gradients(module)
        self.config = training_config(
            self.settings,
            optimization,
            dtype=str(self.dtype).removeprefix("torch."),
            ranks=self.ranks,
            per_device=per_device,
            accumulation=accumulation,
            total_steps=total_steps,
            on_gpu=self.device.type == "cuda",
        )
        deepspeed = _deepspeed(self.config)
        self._check_config(deepspeed)
        groups = optimization.groups(module, new_parameters)
        own = "optimizer" in self.config, "scheduler" in self.config
        optimizer = None if own[0] else optimization.adamw(groups)
        if optimizer is not None and self.zero_stage == 0 and self.dtype.itemsize == 2:
            # DeepSpeed takes a step without gradients to set up its states, which would decay the weights and count.
            vars(optimizer)["step"] = _rest

        def schedule(inner: torch.optim.Optimizer) -> Any:
            vars(inner).pop("step", None)
            return optimization.scheduler(inner, total_steps)

        with contextlib.redirect_stdout(io.StringIO()):  # its optimizers print memory tables
            self._engine, *_ = deepspeed.initialize(
                model=module,
                config=self.config,
                model_parameters=groups if own[0] else None,
                optimizer=optimizer,
                lr_scheduler=None if own[1] else schedule,
            )
        if optimizer is not None and vars(optimizer).get("step") is _rest:
            del vars(optimizer)["step"]
        self._module = module
        self._clips = self.zero_stage == 0 and self.dtype.itemsize == 4

    def place(self, module: torch.nn.Module) -> None:
        """Takes the module for evaluation and prediction only."""
        self._module = module.to(device=self.device, dtype=self.dtype).eval()

    @property
    def module(self) -> torch.nn.Module:
        """The model for evaluation and generation; its weights may be partitioned: call it, never reach into it."""
        if self._module is None:
            raise RunError("the engine has no model yet")
        return self._module

    def train_step(
        self,
        micro_batches: Sequence[MicroBatch],
        loss: Callable[[torch.nn.Module, Batch], Loss],
        count: Callable[[Batch], int],
        stop: bool = False,
    ) -> StepResult:
        """One optimizer step over the global batch, whose loss is sum / count over all ranks and micro batches.

        Counts are known from the labels alone, so they are summed over the ranks before the first forward pass and each
        micro batch can be weighted exactly. DeepSpeed averages gradients over the ranks, hence the factor `ranks`.
        """
        import torch

        full = [micro for micro in micro_batches if micro.rows]
        mine = [sum(count(micro.batch) for micro in full), sum(m.rows for m in full), sum(m.tokens for m in full), stop]
        counted, rows, tokens, stopping = self.all_reduce([float(number) for number in mine])
        weight = self.ranks / counted if counted else 0.0
        rate = float(self._engine.get_lr()[0])
        total = torch.zeros((), device=self.device)
        norm: Any = None
        for position, micro in enumerate(micro_batches):
            result = loss(self._engine, self.to_device(micro.batch))
            self._engine.backward(result.total * (weight if micro.rows else 0.0), scale_wrt_gas=False)
            if micro.rows:
                total += result.total.detach().float()
            if self._clips and position == len(micro_batches) - 1:
                norm = torch.nn.utils.clip_grad_norm_(self.module.parameters(), self._engine.gradient_clipping() or inf)
            self._engine.step()
        if self.ranks > 1:
            torch.distributed.all_reduce(total)
        mean = total / counted if counted else total
        norm = self._engine.get_global_grad_norm() if norm is None else norm
        return StepResult(mean, norm, rate, int(rows), int(tokens), bool(stopping))

    def save(self, folder: Path) -> None:
        """Writes weights, optimizer and schedule below `folder`; every rank calls it and writes its own files."""
        self._engine.save_checkpoint(str(folder), tag=TAG, save_latest=False)

    def load(self, folder: Path) -> None:
        """Reads what `save` wrote, by the same number of ranks at the same stage."""
        path, _ = self._engine.load_checkpoint(str(folder), tag=TAG)
        if path is None:
            raise RunError(f"{folder} holds no checkpoint of the engine")

    def state_dict(self) -> dict[str, torch.Tensor]:
        """All weights in float32 on the CPU, on rank 0 (empty elsewhere); every rank has to call it."""
        import torch

        known: dict[int, torch.Tensor] = {}
        state: dict[str, torch.Tensor] = {}
        for name, value in self.module.state_dict(keep_vars=True).items():
            if id(value) not in known:
                full = self._full(value) if isinstance(value, torch.nn.Parameter) else value
                if self.rank == 0:
                    full = full.detach().to("cpu", torch.float32 if full.is_floating_point() else full.dtype, copy=True)
                known[id(value)] = full if self.rank == 0 else value  # tied weights stay one tensor
            if self.rank == 0:
                state[name] = known[id(value)]
        return state

    def _full(self, parameter: torch.nn.Parameter) -> torch.Tensor:
        """The whole master weight of a parameter that may be partitioned, low-precision or frozen."""
        if self._engine is None:
            return parameter
        from deepspeed import utils, zero

        if hasattr(parameter, "ds_id") and not parameter.requires_grad:
            with zero.GatheredParameters([parameter]):
                return parameter.detach().clone()
        if hasattr(parameter, "ds_id") or hasattr(parameter, "_hp_mapping"):
            full = utils.safe_get_full_fp32_param(parameter)
            return parameter if full is None else full
        return self._masters().get(parameter, parameter)

    def _masters(self) -> dict[torch.nn.Parameter, torch.Tensor]:
        """Stage 0 in half precision keeps whole master weights beside the others."""
        optimizer = self._engine.optimizer
        if not hasattr(optimizer, "fp32_groups"):
            return {}
        both = zip(optimizer.fp16_groups, optimizer.fp32_groups, strict=True)
        return {low: full for lows, fulls in both for low, full in zip(lows, fulls, strict=True)}

    def _check_config(self, deepspeed: Any) -> None:
        """Lets DeepSpeed read the configuration before anything is built on it."""
        try:
            deepspeed.DeepSpeedConfig(self.config)
        except (ValueError, AssertionError, deepspeed.DeepSpeedConfigError) as error:
            raise SceneError(f"deepspeed: {' '.join(str(error).split())}") from None
        zero = self.config["zero_optimization"]
        devices = {zero.get(part, {}).get("device") for part in ("offload_optimizer", "offload_param")}
        if "nvme" in devices and not deepspeed.ops.__compatible_ops__.get("async_io"):
            raise SceneError(
                "nvme_path: offloading to NVMe needs libaio, with its headers; install it, or offload to cpu"
            )


def _rest(*args: Any, **kwargs: Any) -> None:
    """An optimizer step that does nothing."""


def _deepspeed(config: dict[str, Any]) -> Any:
    """The library, imported fast and made quiet."""
    with _hidden("mlflow"):  # its autotuner imports it when it is there, which takes five times as long as the rest
        import deepspeed
    from deepspeed.ops import __compatible_ops__

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    # An all-reduce for inference over shared memory, which training never calls and which would be compiled now.
    __compatible_ops__["deepspeed_shm_comm"] = False
    if config.get("optimizer", {}).get("type", "").lower() != "muon":
        _import_muon()
    deepspeed.init_distributed(verbose=False)
    return deepspeed


def _import_muon() -> None:
    """Imports an optimizer that DeepSpeed asks for in any case, without loading a compiler for its functions."""
    from deepspeed.runtime import compiler

    compile_for_real = compiler.compile
    compiler.compile = lambda: lambda function: function
    try:
        importlib.import_module("deepspeed.runtime.zero.muon.muon_optimizer")
    finally:
        compiler.compile = compile_for_real


@contextlib.contextmanager
def _hidden(name: str) -> Iterator[None]:
    """Makes an installed package look absent, unless it is imported already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
