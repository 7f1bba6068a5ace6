"""Several processes that train one net together, as the fork does with MPI; semantics 3.7."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from prototxt_gen.base.errors import CaffeError, Problem

# A test pass of one process may keep the others waiting; a process that ends is noticed at once.
PATIENCE = timedelta(days=1)
FAREWELL = 60.0  # seconds to wait for the others at the end


class LostRank(CaffeError):
    """Another process of the run has ended, or cannot be reached."""


class Ranks:
    """This process among `world` processes; with one alone nothing is exchanged."""

    def __init__(self, rank: int = 0, world: int = 1, device: torch.device | None = None):
        self.rank, self.world = rank, world
        self.device = device or torch.device("cpu")
        self._store: Any = None

    @property
    def first(self) -> bool:
        """Whether this process speaks for all: logs, snapshots."""
        return self.rank == 0

    def start(self) -> None:
        """Meet the other processes, at the place that torchrun's variables name."""
        if self.world > 1:
            with _noticing_loss():
                backend = "nccl" if self.device.type == "cuda" else "gloo"
                self._store, rank, world = next(distributed.rendezvous("env://", self.rank, self.world))
                distributed.init_process_group(
                    backend, store=self._store, rank=rank, world_size=world, timeout=PATIENCE
                )

    def leave(self) -> None:
        """Wait until all have come to their end: who closes a connection early cuts off what others still read."""
        if self.world == 1:
            return
        limit = time.monotonic() + FAREWELL
        with suppress(RuntimeError):  # the first process keeps the store, and leaves when all were seen
            seen = self._store.add("left", 1)
            while seen < self.world and time.monotonic() < limit:
                time.sleep(0.01)
                seen = self._store.add("left", 0)

    def stop(self) -> None:
        """Part from the others."""
        if self.world > 1 and distributed.is_initialized():
            distributed.destroy_process_group()

    def average(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace tensors by their means over the processes, in one exchange."""
        if self.world > 1 and tensors:
            with _noticing_loss():
                joined = torch.cat([tensor.reshape(-1) for tensor in tensors])
                distributed.all_reduce(joined)
                joined /= self.world
                parts = joined.split([tensor.numel() for tensor in tensors])
                for tensor, part in zip(tensors, parts, strict=True):
                    tensor.copy_(part.view(tensor.shape))

    def means(self, numbers: Sequence[float]) -> list[float]:
        """The means of numbers over the processes."""
        if self.world == 1 or not numbers:
            return list(numbers)
        held = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        self.average([held])
        return held.tolist()

    def spread(self, tensors: Sequence[torch.Tensor]) -> None:
        """Give all processes the first one's tensors."""
        if self.world > 1:
            with _noticing_loss(), torch.no_grad():
                for tensor in tensors:
                    held = tensor.detach().contiguous()
                    distributed.broadcast(held, 0)
                    tensor.copy_(held)

    def agreed(self, thing: Any = None) -> Any:
        """What the first process has."""
        if self.world == 1:
            return thing
        with _noticing_loss():
            held = [thing]
            distributed.broadcast_object_list(held, 0, device=self.device)
            return held[0]

    def gathered(self, thing: Any) -> list[Any]:
        """What every process has, in their order."""
        if self.world == 1:
            return [thing]
        with _noticing_loss():
            held: list[Any] = [None] * self.world
            distributed.all_gather_object(held, thing)
            return held


def launched() -> tuple[int, int, int]:
    """Rank, number of processes and number on this machine, as torchrun says; (0, 1, 0) without it."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if not all(name in os.environ for name in names[:2]):
        return 0, 1, 0
    rank, world, local = (int(os.environ.get(name, os.environ["RANK"])) for name in names)
    return rank, world, local


@contextmanager
def _noticing_loss() -> Iterator[None]:
    try:
        yield
    except RuntimeError as cause:
        reason = re.sub(r"^\[[^]]*\] *", "", str(cause).splitlines()[0]).split(". ")[0]
        fix = "see what it printed; when that is mended, start all processes again with --resume"
        raise LostRank(Problem(f"another process of the run ended or cannot be reached: {reason}", fix=fix)) from None
