"""Which item comes when: wrap-around, shuffling, skipping and the ranks' shares, for any position at once.

Nothing here remembers anything: the item at a place of the stream is a function of the seed and the place.
So loading in parallel cannot change the order, and a position is all that resuming needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from zlib import crc32

import numpy as np

EPOCH, SKIP, ITEM = range(3)  # what random numbers are for


@dataclass(frozen=True)
class Draws:
    """Independent random streams: one for each purpose and number, all from a seed and a name.

    `rank` is that of a process which reads on its own; processes that share a stream leave it 0.
    """

    seed: int
    name: str = ""
    rank: int = 0

    def __call__(self, purpose: int, number: int) -> np.random.Generator:
        key = [self.seed + self.rank, crc32(self.name.encode()), purpose, number]
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


@dataclass(frozen=True)
class Share:
    """What part of the stream a rank reads: the place there of its k-th item; semantics 3.7.

    `blocks`: the fork's, whole batches in turn; `items`: BVLC's, item by item; `all`: every rank everything.
    """

    batch: int
    rule: str = "all"
    rank: int = 0
    world: int = 1

    def __call__(self, k: int) -> int:
        if self.rule == "blocks":
            return (k // self.batch * self.world + self.rank) * self.batch + k % self.batch
        return k * self.world + self.rank if self.rule == "items" else k


@dataclass
class Order:
    """The k-th item that a rank reads: `order(k)` is its index and its place in the stream of all ranks.

    In order, or with `shuffle` in a new permutation each epoch; from a random one of the first `rand_skip`.
    """

    count: int
    share: Share
    draws: Draws
    shuffle: bool = False
    rand_skip: int = 0
    _epochs: dict[int, np.ndarray] = field(default_factory=dict, repr=False)

    def __call__(self, k: int) -> tuple[int, int]:
        place = self.share(k)
        epoch, i = divmod(place + self.skip, self.count)
        return (int(self.epoch(epoch)[i]) if self.shuffle else i), place

    @cached_property
    def skip(self) -> int:
        """How many items are passed over at the start."""
        return int(self.draws(SKIP, 0).integers(self.rand_skip)) if self.rand_skip else 0

    def epoch(self, number: int) -> np.ndarray:
        """The order of an epoch."""
        if number not in self._epochs:
            while len(self._epochs) > 1:  # a batch may lie across the end of an epoch
                del self._epochs[min(self._epochs)]
            self._epochs[number] = self.permuted(self.draws(EPOCH, number))
        return self._epochs[number]

    def permuted(self, rng: np.random.Generator) -> np.ndarray:
        """A random order of one epoch."""
        return rng.permutation(self.count)

    def reseeded(self, draws: Draws) -> Order:
        """The same order with other random numbers."""
        return replace(self, draws=draws, _epochs={})


@dataclass
class FilesOrder(Order):
    """HDF5Data's: `shuffle` permutes the files, and the rows within each file; semantics 5.6."""

    sizes: Sequence[int] = ()

    def permuted(self, rng: np.random.Generator) -> np.ndarray:
        starts = np.concatenate([[0], np.cumsum(self.sizes)])
        files = rng.permutation(len(self.sizes))
        return np.concatenate([starts[i] + rng.permutation(self.sizes[i]) for i in files])


@dataclass
class OwnShareOrder(Order):
    """The fork's Data with `shuffle`: once in order, then shuffled among what this rank has read; semantics 5.3."""

    def __call__(self, k: int) -> tuple[int, int]:
        if k < len(self.own):
            return int(self.own[k]), self.share(k)
        epoch, i = divmod(k, len(self.own))
        return int(self.epoch(epoch)[i]), self.share(k)

    @cached_property
    def own(self) -> np.ndarray:
        """The items that this rank reads before the database first ends."""
        start = self.skip % self.count
        places = np.arange(self.count - start)
        mine = places // self.share.batch % self.share.world == self.share.rank
        return start + places[mine]

    def permuted(self, rng: np.random.Generator) -> np.ndarray:
        return rng.permutation(self.own)
