"""Learning-rate policies of both Caffes; semantics 3.3 (Solver::GetLearningRate)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from prototxt_gen.base.errors import Problems
from prototxt_gen.schema.habits import habits

POLICIES = ("fixed", "step", "exp", "inv", "multistep", "poly", "sigmoid", "exp10")
NEEDED = {
    "step": ("gamma", "stepsize"),
    "exp": ("gamma",),
    "inv": ("gamma", "power"),
    "multistep": ("gamma",),
    "poly": ("power", "max_iter"),
    "sigmoid": ("gamma", "stepsize"),
    "exp10": ("stepsize",),
}
UNSAID = ("base_lr", "gamma", "power")  # 0 for Caffe


def check_policy(param: Any, dialect: str, problems: Problems) -> None:
    """Complain about a policy that this dialect does not have, and about fields that it cannot do without."""
    own = habits(dialect)
    known = [policy for policy in POLICIES if policy in own.rate_policies]
    if param.lr_policy not in known:
        expected = "one of: " + ", ".join(known)
        problems.add(f"the policy '{param.lr_policy}'", expected=expected, field="lr_policy")
        return
    for name in ("base_lr", *NEEDED.get(param.lr_policy, ())):
        if not param.HasField(name):
            fix = f"write {name}: 0, which Caffe takes without a word" if name in UNSAID else ""
            problems.add(f"no {name} for the policy '{param.lr_policy}'", expected="a value", fix=fix, field=name)
    # A Caffe that checks none of these is crashed by stepsize 0; a sigmoid's may be anything, and so may gamma.
    dividing = ("step", "exp10", *(["sigmoid"] if own.checks_rates else []))
    if param.lr_policy in dividing and param.HasField("stepsize") and param.stepsize <= 0:
        problems.add(f"stepsize {param.stepsize}", expected="1 or more", field="stepsize")
    if own.checks_rates and "gamma" in NEEDED.get(param.lr_policy, ()) and param.gamma < 0:
        problems.add(f"gamma {param.gamma:g}", expected="0 or more", field="gamma")


def rate(param: Any, iteration: int, current_step: int = 0) -> float:
    """The learning rate of an iteration (completed updates); `current_step` is multistep's counter."""
    base, gamma, policy = param.base_lr, param.gamma, param.lr_policy
    if policy == "step":
        return base * _power(gamma, iteration // param.stepsize)
    if policy == "exp":
        return base * _power(gamma, iteration)
    if policy == "inv":
        return base * _power(1 + gamma * iteration, -param.power)
    if policy == "multistep":
        return base * _power(gamma, current_step)
    if policy == "poly":
        return base * _power(1 - iteration / param.max_iter, param.power) if param.max_iter else math.nan
    if policy == "sigmoid":
        return base / (1 + _power(math.e, -gamma * (iteration - param.stepsize)))
    if policy == "exp10":
        return base * _power(10, -iteration / param.stepsize)
    return base


def _power(base: float, exponent: float) -> float:
    """C's pow: infinite or no number where Python raises or turns to complex numbers."""
    with np.errstate(all="ignore"):
        return float(np.float64(base) ** np.float64(exponent))


def step_counter(param: Any, iteration: int, current_step: int) -> int:
    """The counter after an iteration's rate was asked for: step recomputes it, multistep moves at most one on."""
    if param.lr_policy == "step":
        return iteration // param.stepsize
    if param.lr_policy == "multistep" and current_step < len(param.stepvalue):
        return current_step + (iteration >= param.stepvalue[current_step])
    return current_step
