"""The ranks of a run: how they meet, which device each has, and how they talk to each other."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import RunError

if TYPE_CHECKING:
    import torch

    from .contracts import Batch

Item = TypeVar("Item")
SECONDS_BETWEEN_LOOKS = 1.0
TIMEOUT = timedelta(hours=12)
"""How long ranks wait for each other; one may prepare features alone for long. A rank that dies is noticed at once."""


def paced(
    items: Iterable[Item],
    look: Callable[[float], float],
    seconds: float = SECONDS_BETWEEN_LOOKS,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Item]:
    """The items; before the first, and then about every `seconds`, `look` is called, on all ranks before the same item.

    Args:
        items: as many on each rank.
        look: is given the seconds that the items since the last look took here, and gives what they took on all ranks.
        seconds: between two looks; one item may take longer.
        clock: in seconds.
    """
    left, step, begin = 0, 0, clock()
    for item in items:
        if not left:
            took = look(clock() - begin)
            begin = clock()
            step = left = max(1, min(2 * step, int(step * seconds / max(took, 1e-9))))
        left -= 1
        yield item


@dataclass
class Ranks:
    """This rank's place among the ranks."""

    rank: int
    ranks: int
    local_rank: int
    device: torch.device

    def to_device(self, batch: Batch) -> Batch:
        """The batch with its tensors on this rank's device."""
        if self.device.type == "cpu":
            return batch
        return {
            name: value.to(self.device, non_blocking=True) if hasattr(value, "to") else value
            for name, value in batch.items()
        }

    def all_reduce(self, numbers: list[float]) -> list[float]:
        """The sums over all ranks."""
        import torch

        if self.ranks == 1:
            return numbers
        tensor = torch.tensor(numbers, dtype=torch.float64)
        torch.distributed.all_reduce(tensor)
        return [float(number) for number in tensor]

    def gather(self, item: Any) -> list[Any] | None:
        """The items of all ranks, by rank, on rank 0; None elsewhere."""
        import torch

        if self.ranks == 1:
            return [item]
        items: list[Any] | None = [None] * self.ranks if self.rank == 0 else None
        torch.distributed.gather_object(item, items)
        return items

    def broadcast(self, item: Any) -> Any:
        """Rank 0's item, on every rank."""
        import torch

        if self.ranks == 1:
            return item
        items = [item]
        torch.distributed.broadcast_object_list(items, device=torch.device("cpu"))
        return items[0]

    def barrier(self) -> None:
        """Waits for all ranks."""
        self.all_reduce([0.0])


def gather_rows(rows: torch.Tensor) -> tuple[torch.Tensor, int]:
    """The rows of all ranks, with gradients, and where this rank's begin; every rank has to call it, and backward.

    Args:
        rows: [rows, size]; ranks may have different numbers of rows, or none.

    Returns:
        [rows of all ranks, size] in the order of ranks. The gradient of a row is the sum of those that the ranks give.
    """
    import torch

    class Gather(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, rows: torch.Tensor) -> torch.Tensor:
            # collectives want the same shape on every rank
            padded = rows.new_zeros(int(counts.max()), *rows.shape[1:])
            padded[: len(rows)] = rows
            parts = [torch.empty_like(padded) for _ in range(ranks)]
            torch.distributed.all_gather(parts, padded)
            return torch.cat([part[:count] for part, count in zip(parts, counts.tolist(), strict=True)])

        @staticmethod
        def backward(context: Any, *gradients: torch.Tensor) -> torch.Tensor:
            total = gradients[0].contiguous()
            torch.distributed.all_reduce(total)
            return total[begin : begin + own]

    if not torch.distributed.is_initialized() or (ranks := torch.distributed.get_world_size()) == 1:
        return rows, 0
    rank, own = torch.distributed.get_rank(), len(rows)
    counts = torch.zeros(ranks, dtype=torch.long)
    counts[rank] = own
    torch.distributed.all_reduce(counts)
    begin = int(counts[:rank].sum())
    gathered: torch.Tensor = Gather.apply(rows)  # type: ignore[no-untyped-call]
    return gathered, begin


def join() -> Ranks:
    """Joins the ranks: through a launcher's environment, our own rendezvous file, or alone; once a process.

    The process group is started here and not by DeepSpeed, which would need MPI or a port of its own choice.
    """
    import torch

    rank, ranks = int(os.environ.setdefault("RANK", "0")), int(os.environ.setdefault("WORLD_SIZE", "1"))
    local_rank = int(os.environ.setdefault("LOCAL_RANK", str(rank)))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", local_rank % torch.cuda.device_count())
        torch.cuda.set_device(device)
    elif "OMP_NUM_THREADS" not in os.environ:
        here = int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("LOCAL_SIZE") or ranks)
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // here))
    if not torch.distributed.is_initialized():
        _meet(rank, ranks, "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    return Ranks(rank, ranks, local_rank, device)


def _meet(rank: int, ranks: int, backend: str) -> None:
    import torch

    rendezvous = os.environ.get("DEEPGEN_RENDEZVOUS")
    if rendezvous is not None or "MASTER_ADDR" in os.environ:
        store = _store(rendezvous or "env://", rank, ranks)
        store.set_timeout(TIMEOUT)
        _check_attempt(store, rank)
        torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=ranks, timeout=TIMEOUT)
    elif ranks == 1:
        store = torch.distributed.HashStore()  # type: ignore[attr-defined]
        torch.distributed.init_process_group(backend, store=store, rank=0, world_size=1)
    else:
        raise RunError(f"WORLD_SIZE is {ranks}, but neither DEEPGEN_RENDEZVOUS nor MASTER_ADDR says where ranks meet")


def _store(address: str, rank: int, ranks: int) -> Any:
    """What the ranks find each other through; a file is named as it is, whatever characters its path has."""
    import torch
    from torch.distributed.rendezvous import rendezvous

    if address.startswith("file://"):
        return torch.distributed.FileStore(address.removeprefix("file://"), ranks)  # type: ignore[attr-defined]
    return next(rendezvous(address, rank, ranks, timeout=TIMEOUT))[0]


def _check_attempt(store: Any, rank: int) -> None:
    """Before the first collective: whether this rank belongs to those it meets. A port or a file has no identity.

    The first rank writes down the attempt, and no rank goes on that is of another.
    """
    mine = os.environ.get("DEEPGEN_ATTEMPT_ID", "none")
    theirs = store.compare_set("deepgen/attempt", "", mine).decode()
    if theirs != mine:
        raise RunError(f"rendezvous: rank {rank} of attempt {mine} met ranks of another attempt, {theirs}")


def has_bf16(device: torch.device) -> bool:
    """Whether the device has bfloat16 arithmetic of its own."""
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("flags", "Features")):  # x86, ARM
                return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(line.split()))
    return False
