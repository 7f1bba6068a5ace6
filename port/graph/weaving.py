"""Caffe's memory in a torch.fx graph: what one forward pass leaves for its backward pass, and functions that read it.

What a pass remembers is in a `Pass`, which the first node makes: so several passes, threads and copies of a net do
not get in each other's way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx
from torch.autograd.function import once_differentiable

from ..layers.memory import Held
from .graph import Node, Value
from .memory import Sharing, Spoiled


class Pass:
    """The values of one forward pass that its backward pass will look for, by name."""

    def __init__(self) -> None:
        self.values: dict[str, torch.Tensor] = {}

    def float(self) -> Pass:
        """Itself: it goes through hooks that are meant for bottoms."""
        return self

    contiguous = float


def new_pass() -> Pass:
    """A pass that has not begun."""
    return Pass()


def remember(memory: Pass, name: str, value: torch.Tensor) -> None:
    """Keep a value for the backward pass."""
    if torch.is_grad_enabled():
        memory.values[name] = value.detach()


class _Blocked(torch.autograd.Function):
    """Hands a value on, and 0 back."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return torch.zeros_like(grad)


def blocked(value: torch.Tensor) -> torch.Tensor:
    """The value, with a gradient of 0."""
    return _Blocked.apply(value)  # type: ignore[no-any-return]


class _Littered(torch.autograd.Function):
    """Hands a value on, and back the gradient with what a layer left there in the forward pass."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, memory: Pass, key: str) -> torch.Tensor:
        ctx.memory, ctx.key = memory, key
        return value.view_as(value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return grad + ctx.memory.values[ctx.key].reshape(grad.shape), None, None


def littered(value: torch.Tensor, memory: Pass, key: str) -> torch.Tensor:
    """The value; to its gradient is added what is remembered under a key."""
    return _Littered.apply(value, memory, key)  # type: ignore[no-any-return]


class Afterwards(torch.autograd.Function):
    """A layer whose backward pass reads its blobs as they are after the whole forward pass."""

    @staticmethod
    def forward(
        ctx: Any, call: Callable[..., Any], module: Any, memory: Pass, count: int, *tensors: torch.Tensor
    ) -> Any:
        tops = call(*tensors[:count])
        ctx.module, ctx.memory, ctx.count = module, memory, count
        ctx.single = isinstance(tops, torch.Tensor)
        ctx.save_for_backward(*tensors[:count], *((tops,) if ctx.single else tops))
        return tops

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        module, spoiled = ctx.module, ctx.module.spoiled
        bottoms, tops = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
        held = Held(_found(bottoms, spoiled[0], ctx.memory), _found(tops, spoiled[1], ctx.memory), bottoms, tops)
        needed = ctx.needs_input_grad[4:]
        own = module.layer.spoiled_gradient(grads, held)
        if own is None:
            own = _gradient(module, grads, held.bottoms, needed)
        else:
            own = (*own, *[None] * (len(needed) - len(own)))
        own = tuple(
            g if need and i not in module.detached else None
            for i, (g, need) in enumerate(zip(own, needed, strict=True))
        )
        return (None, None, None, None, *own)


def _found(seen: tuple[torch.Tensor, ...], names: dict[int, str], memory: Pass) -> tuple[torch.Tensor, ...]:
    """Blobs as the backward pass finds them: some by the names of later versions, the others as they were."""
    return tuple(memory.values[names[i]].reshape(x.shape) if i in names else x for i, x in enumerate(seen))


def _gradient(module: Any, grads: tuple[torch.Tensor, ...], bottoms: tuple[torch.Tensor, ...], needed: Any) -> Any:
    """The gradient of the layer's forward rule at other bottoms: for the bottoms, then for the blobs."""
    with torch.enable_grad():
        leaves = [x.detach().requires_grad_(need) for x, need in zip(bottoms, needed, strict=False)]
        tops = module.layer.forward(module, *leaves)
    wanted = [x for x in (*leaves, *module.blobs) if x.requires_grad]
    reached = [(top, grad) for top, grad in zip(tops, grads, strict=True) if top.requires_grad]
    if not reached:
        return (None,) * len(needed)
    ends, seeds = zip(*reached, strict=True)
    found = torch.autograd.grad(ends, wanted, seeds, allow_unused=True)
    by = dict(zip(map(id, wanted), found, strict=True))
    return tuple(by.get(id(x)) for x in (*leaves, *module.blobs))


class Weaver:
    """Puts the nodes that a pattern needs into an fx graph while it is built."""

    def __init__(self, graph: fx.Graph, sharing: Sharing):
        self.graph, self.sharing = graph, sharing
        self.memory = graph.call_function(new_pass) if sharing else None
        spoiled = sharing.spoiled.values()
        self.kept = {v for entry in spoiled for v in (*entry.bottoms.values(), *entry.tops.values())}
        self.litter = {value: node for node, value in sharing.scratch.items()}

    def arguments(self, node: Node) -> tuple[fx.Node, ...]:
        """What a layer's call takes before its bottoms."""
        needed = node in self.sharing.spoiled or node in self.sharing.scratch
        return (self.memory,) if needed and self.memory is not None else ()

    def made(self, value: Value, place: fx.Node) -> tuple[fx.Node, fx.Node]:
        """The node that stands for a value, and the one that its readers take."""
        if value in self.kept:
            self.graph.call_function(remember, (self.memory, value.name, place))
        if value in self.litter:
            place = self.graph.call_function(littered, (place, self.memory, litter_key(self.litter[value].name)))
        if value in self.sharing.lost:
            place = self.graph.call_function(blocked, (place,))
        if value in self.sharing.unweighted:
            return self.graph.call_function(blocked, (place,)), place
        return place, place


def litter_key(layer: str) -> str:
    """Under which key a layer's scratch is remembered: no value bears such a name."""
    return f"scratch of {layer}\n"


def names(spoiled: Spoiled | None) -> tuple[dict[int, str], dict[int, str]]:
    """The versions that a layer's backward pass reads, by position and name."""
    if spoiled is None:
        return {}, {}
    return tuple({i: v.name for i, v in part.items()} for part in (spoiled.bottoms, spoiled.tops))  # type: ignore
