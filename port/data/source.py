"""A data layer at work: batches without end, in an order that its state brings back."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from torch.utils.data import DataLoader, Dataset

from prototxt_gen.base.errors import CaffeError, DataError, Problem, Problems

from ..layers import Shape, show
from .order import ITEM, Draws, Order
from .paths import located
from .readers import Item, Reader
from .transform import Tensor

Batch = dict[str, np.ndarray]


@dataclass(frozen=True)
class Plan(Dataset):
    """Everything that a batch depends on; `plan[n]` is the n-th, in whatever process it is made."""

    reader: Reader
    order: Order
    draws: Draws
    layer: str
    tops: tuple[str, ...]
    batch_size: int

    def __getitem__(self, number: int) -> Batch | CaffeError:
        try:
            return self.batch(number)
        except CaffeError as error:  # returned: what a worker raises comes back as a text about the worker
            return error

    def batch(self, number: int) -> Batch:
        """The n-th batch: top -> float32 array, all items of the first one's size; raises DataError."""
        items: list[Item] = []
        for k in range(number * self.batch_size, (number + 1) * self.batch_size):
            index, place = self.order(k)
            with located(layer=self.layer, **self.reader.place(index)):
                item = self.reader.read(index, self.draws(ITEM, place))
                self._check_size(item, (items or [item])[0])
            items.append(item)
        return {top: np.stack([item[i] for item in items]) for i, top in enumerate(self.tops)}

    def _check_size(self, item: Item, first: Item) -> None:
        for top, array, wanted in zip(self.tops, item, first, strict=False):
            if array.shape != wanted.shape:
                found = f"'{top}' is {show(array.shape)} here, {show(wanted.shape)} in the batch's first item"
                fix = "items of a batch must have one size: set crop_size (or new_height, new_width), or batch_size 1"
                raise DataError(Problem(found, fix=fix))


class DataSource:
    """The batches of one data layer; made by `open_data`.

    `position` counts the batches handed out; setting it goes there. Which items a batch holds, and what is
    random about them, depends on the seed and the position alone, not on `workers` (processes that load and
    decode ahead; 0: none).
    """

    def __init__(self, plan: Plan, workers: int = 0):
        self.plan = plan
        self.workers = workers
        self.position = 0

    def __len__(self) -> int:
        """The number of items in the data."""
        return len(self.plan.reader)

    @property
    def tops(self) -> tuple[str, ...]:
        """The blobs that a batch fills."""
        return self.plan.tops

    @property
    def batch_size(self) -> int:
        """Items in a batch."""
        return self.plan.batch_size

    def shapes(self) -> dict[str, Shape]:
        """Top -> shape of a batch, by the first item; raises DataError when that cannot be read."""
        plan = self.plan
        index, place = plan.order(0)
        with located(layer=plan.layer, **plan.reader.place(index)):
            item = plan.reader.read(index, plan.draws(ITEM, place))
        return {top: (plan.batch_size, *array.shape) for top, array in zip(plan.tops, item, strict=False)}

    def batches(self) -> Iterator[Batch]:
        """Batches from `position` on, without end: top -> float32 array; raises DataError naming a bad item."""
        while True:
            plan = self.plan
            with closing(self._numbered(plan, self.position)) as numbered:
                for number, batch in numbered:
                    if plan is not self.plan or number != self.position:
                        break  # somebody moved the position: go there
                    if isinstance(batch, CaffeError):
                        raise batch
                    self.position += 1
                    yield batch

    def _numbered(self, plan: Plan, start: int) -> Generator[tuple[int, Any], None, None]:
        if not self.workers:
            yield from ((number, plan[number]) for number in itertools.count(start))  # without end
        loader: Any = DataLoader(
            plan,
            batch_size=None,
            sampler=itertools.count(start),
            num_workers=self.workers,
            worker_init_fn=_quiet_worker,
        )
        try:
            for number, batch in enumerate(loader, start):
                yield number, batch if isinstance(batch, CaffeError) else {k: v.numpy() for k, v in batch.items()}
        except RuntimeError as cause:
            found = f"a process that loads data ended: {cause}"
            fix = "check the memory (also /dev/shm) and the data files, or use workers=0"
            raise DataError(Problem(found, fix=fix, layer=plan.layer)) from None

    def candidates(self, index: int) -> Iterator[tuple[Tensor, float]]:
        """Every first top (C, H, W) that the rules can give for an item, with its probability; duplicates kept."""
        with located(layer=self.plan.layer, **self.plan.reader.place(index)):
            yield from self.plan.reader.candidates(index)

    def state(self) -> dict[str, int]:
        """What `restore` needs to go on from here with the same items: plain integers."""
        share = self.plan.order.share
        return {
            "position": self.position,
            "seed": self.plan.draws.seed,
            "items": len(self),
            "batch_size": self.batch_size,
            "world": share.world,
        }

    def restore(self, state: dict[str, int]) -> None:
        """Go to a position and seed that `state` gave; raises DataError if the data or the batches are others."""
        with Problems(DataError) as problems:
            for name, now in self.state().items():
                if name not in state:
                    problems.add(f"the state of the data has no '{name}'", layer=self.plan.layer)
                elif name not in ("position", "seed") and state[name] != now:
                    fix = "resume with the same data, batch_size and processes, or set `position` yourself"
                    problems.add(f"{name} {now}", expected=f"{state[name]}, as saved", fix=fix, layer=self.plan.layer)
        draws = replace(self.plan.draws, seed=state["seed"])
        self.plan = replace(self.plan, draws=draws, order=self.plan.order.reseeded(draws))
        self.position = state["position"]


def _quiet_worker(_: int) -> None:
    """One thread per worker. Ctrl-C and SIGTERM are for the main process, which ends its workers itself."""
    cv2.setNumThreads(0)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
