"""Traits of a layer that say what it does with Caffe's memory: what it shares, overwrites, and reads in backward.

In Caffe a blob is one piece of memory. A layer in place writes over it, Reshape, Flatten and Split hand it on under
another name, and every backward pass reads it as it stands after the whole forward pass. Here every version of a blob
is kept; with these traits the graph knows where Caffe reads another version (port/graph/memory.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import torch

    Gradients = tuple[torch.Tensor | None, ...]


@dataclass(frozen=True)
class Reads:
    """What a layer's backward pass reads from blobs, by position; what it keeps a copy of is not among them."""

    bottoms: tuple[int, ...] = ()
    signs: tuple[int, ...] = ()  # bottoms of which it matters only whether they are above 0
    tops: tuple[int, ...] = ()


@dataclass(frozen=True)
class Held:
    """Blobs of one layer as its backward pass finds them, and as they were when its forward pass had run."""

    bottoms: tuple[torch.Tensor, ...]
    tops: tuple[torch.Tensor, ...]
    seen_bottoms: tuple[torch.Tensor, ...]
    seen_tops: tuple[torch.Tensor, ...]


class MemoryTraits:
    """What the graph asks a layer about memory; the defaults are those of a layer that keeps all it needs."""

    only_memory: ClassVar[bool] = False  # stands for no layer of the file, only for a change of memory
    rebinds_gradient: ClassVar[bool] = False  # backward points its bottom's gradient to its top's
    leaves_scratch: ClassVar[bool] = False  # forward computes in its bottom's gradient; backward would clear that

    def reads(self) -> Reads:
        """What backward reads from blobs."""
        return Reads()

    def keeps(self) -> str:
        """What is left of its bottom when it works in place: "all", "signs", "" (nothing), or "chain".

        "chain": signs, but for places where the gradient that comes back along the same blob is 0.
        """
        return ""

    def shares(self, top: int) -> int | None:
        """The bottom whose memory a top is; None: the top has its own."""
        return None

    def binds_gradient(self) -> bool:
        """Whether the memory of its top's gradient is its bottom's, or an inner net's, from the start."""
        return False

    def mixes_gradients(self) -> bool:
        """Whether backward in place overwrites the gradient before reading it."""
        return False

    def spoiled_gradient(self, grads: Gradients, held: Held) -> Gradients | None:
        """Gradients of the bottoms from what backward finds; None: those of `forward` at `held.bottoms`."""
        return None

    def scratch(self, *bottoms: torch.Tensor) -> Any:
        """What `leaves_scratch` leaves in the gradient of bottom 0."""
        raise NotImplementedError
