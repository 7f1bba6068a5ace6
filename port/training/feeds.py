"""What feeds a net in training: the batches of all its data layers, loaded together and ahead of time."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from prototxt_gen.base.errors import CaffeError, DataError, NetError, Problem, Problems, UsageError
from prototxt_gen.schema.upgrade import upgrade_parsed

from ..data import DataSource, open_data
from ..graph.state import NetState, kept_layers
from ..layers import REGISTRY, Shape
from ..solver.nets import NetSource

Batch = dict[str, Any]  # top -> float32 array or tensor

_FROM_MEMORY = (
    "name a data layer that reads files (Data, ImageData, HDF5Data), or feed it from Python: "
    "solver = port.load_solver(FILE), then solver.step({blob: array}) for each iteration"
)


class _Joint(Dataset):
    """The n-th batches of several sources as one, in whatever process they are made."""

    def __init__(self, sources: Sequence[DataSource]):
        self.sources = sources

    def __getitem__(self, number: int) -> Batch | CaffeError:
        batch: Batch = {}
        try:
            for source in self.sources:
                source.position = number
                batch |= next(source.batches())
        except CaffeError as error:  # returned: what a worker raises comes back as a text about the worker
            return error
        return batch


class Feed:
    """The batches of a net, one for each forward pass; `position` counts those handed out.

    `workers` processes load and decode ahead; which items a batch holds does not depend on them.
    """

    def __init__(self, sources: Sequence[DataSource], names: Sequence[str], workers: int = 0):
        self.sources, self.names, self.workers = list(sources), list(names), workers
        self.position = 0
        self._batches: Iterator[Batch | CaffeError] | None = None

    def next(self) -> Batch:
        """The next batch; raises DataError naming a bad item, and is then still where it was."""
        if not self.sources:
            return {}
        if self._batches is None:
            self._batches = self._start(self.position)
        try:
            batch = next(self._batches)
        except RuntimeError as cause:
            self.close()
            found = f"a process that loads data ended: {cause}"
            fix = "check the memory (also /dev/shm) and the data files, or use --workers 0"
            raise DataError(Problem(found, fix=fix)) from None
        if isinstance(batch, CaffeError):
            self.close()
            raise batch
        self.position += 1
        return batch

    def _start(self, position: int) -> Iterator[Batch | CaffeError]:
        joint, numbers = _Joint(self.sources), itertools.count(position)
        if not self.workers:
            return map(joint.__getitem__, numbers)
        loader: Any = DataLoader(
            joint,
            batch_size=None,
            sampler=numbers,
            num_workers=self.workers,
            worker_init_fn=partial(_start_worker, os.getpid()),
            generator=torch.Generator(),  # without one it would draw from the net's random numbers
        )
        return iter(loader)

    def close(self) -> None:
        """End the processes that load ahead; the next batch starts new ones."""
        self._batches = None

    def shapes(self) -> dict[str, Shape]:
        """The shape of every top, by the first item; raises DataError when that cannot be read."""
        return {top: shape for source in self.sources for top, shape in source.shapes().items()}

    def state(self) -> dict[str, dict[str, int]]:
        """Layer -> what `restore` needs to go on from here."""
        states = {name: source.state() for name, source in zip(self.names, self.sources, strict=True)}
        return {name: state | {"position": self.position} for name, state in states.items()}

    def restore(self, state: dict[str, dict[str, int]]) -> None:
        """Go to a state; raises DataError with all layers whose data or batches are others."""
        with Problems(DataError) as problems:
            for name, source in zip(self.names, self.sources, strict=True):
                if name not in state:
                    fix = "resume the net that was trained, or start the data anew with --restart-data"
                    problems.add("the snapshot knows no position of this layer", layer=name, fix=fix)
                    continue
                try:
                    source.restore(state[name])
                    self.position = state[name]["position"]
                except DataError as error:
                    problems.found += error.problems
        self.close()


def _start_worker(parent: int, _: int) -> None:
    """One thread each. Ctrl-C and SIGTERM are for the main process, which ends its workers itself."""
    if os.getppid() != parent:  # killed meanwhile: nobody would ever end this process
        os._exit(1)
    cv2.setNumThreads(0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def open_feed(
    net: NetSource,
    *,
    seed: int = 0,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    folders: Sequence[Path] = (),
) -> Feed:
    """The feed of a net's data layers; files are looked up from the current folder, the net's, then `folders`.

    Raises UsageError for a net whose batches come from memory, else one DataError (or WeightsError, for a
    mean file) with the problems of all layers.
    """
    layers = data_layers(net)
    root = [Path(), Path(net.parsed.file).parent, *folders]
    sources: list[DataSource] = []
    problems: list[Problem] = []
    for layer in layers:
        try:
            source = open_data(layer, net.phase, net.parsed.dialect, root=root, seed=seed, rank=rank, world=world)
            sources.append(source)
        except CaffeError as error:
            problems += error.problems
    if problems:
        raise DataError(problems)
    return Feed(sources, [layer.name for layer in layers], workers)


def data_layers(net: NetSource) -> list[Any]:
    """The layers of a net that read data, in its state; raises UsageError naming those fed from memory."""
    parsed, _ = upgrade_parsed(net.parsed)
    message, state = parsed.message, NetState(net.phase, net.level, net.stages)
    with Problems(NetError, parsed.file) as wrong:
        kept = [message.layer[i] for i in kept_layers(message, state, wrong, parsed.lines)]
    with Problems(UsageError, parsed.file) as problems:
        for blob in message.input:
            problems.add(f"the input '{blob}' of the {net.phase} net is filled from memory", fix=_FROM_MEMORY)
        for layer in kept:
            if layer.type in REGISTRY and REGISTRY[layer.type].supplied:
                found = f"{layer.type}: the batches of the {net.phase} net come from memory"
                problems.add(found, layer=layer.name, fix=_FROM_MEMORY)
    return [layer for layer in kept if layer.type in REGISTRY and REGISTRY[layer.type].kind == "data"]
