"""Faster ways to compute the same: off in faithful mode, and named as deviations when they are on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from prototxt_gen.base.errors import Problem, UsageError

from ..module import CaffeNet
from ..solver import Solver
from ..solver.parameters import Learned
from ..solver.passes import Outputs
from .joining import join_normalisation


@dataclass(frozen=True)
class Speed:
    """Which ways to use."""

    channels_last: bool = False
    amp: bool = False
    compile: bool = False
    fused: bool = False


def apply_speed(solver: Solver, speed: Speed) -> list[str]:
    """Have a solver use them; returns what deviates from Caffe. Raises UsageError where one cannot be used."""
    deviations = []
    if speed.fused:
        solver.update = _fused_update(solver)
        deviations.append("--fused: PyTorch's fused update rounds differently in the last digit")
        count = join_normalisation(solver.net)
        if count:
            deviations.append(f"--fused: {count} BatchNorm layers and their Scale are computed at once")
    if speed.channels_last:
        _put_channels_last(solver.net)
        for held in (tensor for group in solver.history for tensor in group):
            if held.dim() == 4:
                held.data = held.data.contiguous(memory_format=torch.channels_last)
        deviations.append("--channels-last: sums round differently, and dropout draws other masks")
    if speed.compile:
        deviations.append("--compile: fused kernels round differently, and dropout draws other masks")
    if speed.amp:
        for node in solver.net.caffe.nodes:
            if node.layer.kind != "data" and not node.layer.in_bfloat16:
                solver.net.layer(node.name).register_forward_pre_hook(_in_float32)
        deviations.append("--amp: products are computed in bfloat16, with 8 bits of mantissa")
    if speed.channels_last or speed.compile or speed.amp:
        solver.passes.call = _call(solver, speed)
    return deviations


def _put_channels_last(net: CaffeNet) -> None:
    """Blobs of four axes in that layout, but for layers that need the plain one; blobs go on to share their memory."""
    plain = [
        net.layer(n.name) for n in net.caffe.nodes if n.bottoms and n.layer.needs_plain_layout(n.bottoms[0].shape or ())
    ]
    kept = {blob.data_ptr() for module in plain for blob in module.blobs}
    for module in plain:
        module.register_forward_pre_hook(_in_plain_layout)

    def laid(tensor: torch.Tensor) -> torch.Tensor:
        keep = tensor.dim() != 4 or tensor.data_ptr() in kept
        return tensor if keep else tensor.contiguous(memory_format=torch.channels_last)

    net._apply(laid)


def _in_plain_layout(module: Any, bottoms: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(bottom.contiguous() for bottom in bottoms)


def _call(solver: Solver, speed: Speed) -> Any:
    """How to run the net."""
    net = solver.net
    if speed.compile:
        for module, layer in solver.passes.overwriting:  # once and for all: what is compiled cannot change
            module.layer = layer
        run: Any = torch.compile(net.forward)
    else:
        run = solver.passes.call
    names = net.input_names

    def call(inputs: dict[str, torch.Tensor]) -> Outputs:
        if speed.channels_last:
            inputs = {
                k: v.contiguous(memory_format=torch.channels_last) if v.dim() == 4 else v for k, v in inputs.items()
            }
        device = next(iter(inputs.values())).device.type if inputs else "cpu"
        with torch.autocast(device, torch.bfloat16, enabled=speed.amp):
            found = run(*(inputs[name] for name in names)) if speed.compile else run(inputs)
        return {blob: value.float() for blob, value in found.items()}

    return call


def _in_float32(module: Any, bottoms: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(bottom.float() for bottom in bottoms)


def _fused_update(solver: Solver) -> Any:
    """PyTorch's fused SGD as Caffe's: with a rate of 1, the gradients and the decay scaled by Caffe's rate before."""
    param = solver.param
    if solver.type not in ("SGD", "Nesterov") or param.regularization_type != "L2" or not param.momentum:
        found = f"--fused with {solver.type}, momentum {param.momentum:g} and {param.regularization_type}"
        expected = "SGD or Nesterov with momentum and L2"
        raise UsageError(Problem(found, expected, "leave --fused out", file=solver.file))
    plain = solver.update

    def update(learned: list[Learned], grads: list[torch.Tensor], rates: list[float]) -> None:
        if any(item.owner != i for i, item in zip(solver.moving, learned, strict=True)):
            plain(learned, grads, rates)  # sharers of one storage must go one after the other
            return
        held = [solver.history[0][i] for i in solver.moving]
        groups: dict[tuple[float, float], list[int]] = {}
        for i, (item, rate) in enumerate(zip(learned, rates, strict=True)):
            groups.setdefault((rate, rate * param.weight_decay * item.decay_mult), []).append(i)
        for (rate, decay), places in groups.items():
            _fused(param, [(learned[i].tensor, grads[i], held[i]) for i in places], rate, decay, solver.type)

    return update


def _fused(param: Any, blobs: list[tuple[torch.Tensor, ...]], rate: float, decay: float, kind: str) -> None:
    values, grads, held = (list(column) for column in zip(*blobs, strict=True))
    if not rate:  # momentum alone
        torch._foreach_zero_(grads)
    torch._fused_sgd_(
        values,
        grads,
        held,
        weight_decay=decay,
        momentum=param.momentum,
        lr=1.0,
        dampening=0.0,
        nesterov=kind == "Nesterov",
        maximize=False,
        is_first_step=False,
        grad_scale=torch.tensor(1 / rate if rate else 1.0, device=values[0].device),
        found_inf=None,
    )
