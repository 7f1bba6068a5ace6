"""Update rules of both Caffes: gradients and history to the values that are subtracted; semantics 3.2.

A rule takes the regularised gradients, the learning rate of each parameter and the history lists, changes
the history in place and returns the updates.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch

Tensors = list[torch.Tensor]
Rule = Callable[[Any, Tensors, list[float], list[Tensors], int], Tensors]


def add_scaled(targets: Sequence[torch.Tensor], terms: Sequence[torch.Tensor], factors: Sequence[float]) -> None:
    """targets += factors * terms, without temporaries; terms of factor 0 are left out."""
    groups = defaultdict(list)
    for i, factor in enumerate(factors):
        groups[factor].append(i)
    for factor, places in groups.items():
        if factor:
            torch._foreach_add_([targets[i] for i in places], [terms[i] for i in places], alpha=factor)


def sgd(param: Any, grads: Tensors, rates: list[float], history: list[Tensors], iteration: int) -> Tensors:
    """H = momentum H + rate g; U = H: the rate is inside the history, unlike torch's (sgd_solver)."""
    (held,) = history
    torch._foreach_mul_(held, param.momentum)
    add_scaled(held, grads, rates)
    return held


def nesterov(param: Any, grads: Tensors, rates: list[float], history: list[Tensors], iteration: int) -> Tensors:
    """H' = momentum H + rate g; U = (1 + momentum) H' - momentum H (nesterov_solver)."""
    (held,) = history
    old = torch._foreach_mul(held, param.momentum)
    sgd(param, grads, rates, history, iteration)
    updates = torch._foreach_mul(held, 1 + param.momentum)
    torch._foreach_sub_(updates, old)
    return updates


def _scaled(grads: Tensors, held: Tensors, rates: list[float], delta: float) -> Tensors:
    """rate g / (sqrt(H) + delta)."""
    roots = torch._foreach_sqrt(held)
    torch._foreach_add_(roots, delta)
    updates = torch._foreach_div(grads, roots)
    torch._foreach_mul_(updates, rates)
    return updates


def adagrad(param: Any, grads: Tensors, rates: list[float], history: list[Tensors], iteration: int) -> Tensors:
    """H += g^2; U = rate g / (sqrt(H) + delta) (adagrad_solver)."""
    torch._foreach_addcmul_(history[0], grads, grads)
    return _scaled(grads, history[0], rates, param.delta)


def rmsprop(param: Any, grads: Tensors, rates: list[float], history: list[Tensors], iteration: int) -> Tensors:
    """H = decay H + (1 - decay) g^2; U = rate g / (sqrt(H) + delta) (rmsprop_solver)."""
    torch._foreach_mul_(history[0], param.rms_decay)
    torch._foreach_addcmul_(history[0], grads, grads, 1 - param.rms_decay)
    return _scaled(grads, history[0], rates, param.delta)


def adadelta(param: Any, grads: Tensors, rates: list[float], history: list[Tensors], iteration: int) -> Tensors:
    """Squared gradients and squared updates, both decaying by momentum (adadelta_solver)."""
    squares, moves = history
    momentum, delta = param.momentum, param.delta
    torch._foreach_mul_(squares, momentum)
    torch._foreach_addcmul_(squares, grads, grads, 1 - momentum)
    ratio = torch._foreach_div(torch._foreach_add(moves, delta), torch._foreach_add(squares, delta))
    torch._foreach_sqrt_(ratio)
    torch._foreach_mul_(ratio, grads)
    torch._foreach_mul_(moves, momentum)
    torch._foreach_addcmul_(moves, ratio, ratio, 1 - momentum)
    torch._foreach_mul_(ratio, rates)
    return ratio


def adam(param: Any, grads: Tensors, rates: list[float], history: list[Tensors], iteration: int) -> Tensors:
    """U = rate sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + delta): delta outside the correction (adam_solver)."""
    first, second = history
    b1, b2, t = param.momentum, param.momentum2, iteration + 1
    torch._foreach_mul_(first, b1)
    torch._foreach_add_(first, grads, alpha=1 - b1)
    torch._foreach_mul_(second, b2)
    torch._foreach_addcmul_(second, grads, grads, 1 - b2)
    correction = math.sqrt(1 - b2**t) / (1 - b1**t)
    return _scaled(first, second, [rate * correction for rate in rates], param.delta)


# type -> rule, histories per parameter, dialects; the fork's enum is SGD, NESTEROV, ADAGRAD
RULES: dict[str, tuple[Rule, int, tuple[str, ...]]] = {
    "SGD": (sgd, 1, ("bvlc", "srn")),
    "Nesterov": (nesterov, 1, ("bvlc", "srn")),
    "AdaGrad": (adagrad, 1, ("bvlc", "srn")),
    "RMSProp": (rmsprop, 1, ("bvlc",)),
    "AdaDelta": (adadelta, 2, ("bvlc",)),
    "Adam": (adam, 2, ("bvlc",)),
}
FORK_TYPES = tuple(RULES)  # by their number in the enum, whose last three other forks have
NO_MOMENTUM = ("AdaGrad", "RMSProp")
DECAYS = {"RMSProp": ("rms_decay",), "Adam": ("momentum", "momentum2")}  # 1 would divide by zero, or learn nothing
