"""Learning-rate policies of both Caffes, semantics 3.3 (Solver::GetLearningRate), and what forks add to them.

Intel's `warmup_iter` raises the rate from warmup_start_lr to base_lr along a line in any policy; "multifixed", of
Intel and MobileNet-YOLO, has a rate for every stage; NVIDIA's `min_lr` is where "poly" ends.
"""

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
FORK_POLICIES = ("multifixed",)
FORK_FIELDS = frozenset({"warmup_iter", "warmup_start_lr", "stagelr", "stageiter", "min_lr"})  # honoured here
UNSAID = ("base_lr", "gamma", "power")  # 0 for Caffe


def check_policy(param: Any, dialect: str, problems: Problems) -> None:
    """Complain about a policy that this dialect does not have, and about fields that it cannot do without."""
    own = habits(dialect)
    known = [policy for policy in POLICIES if policy in own.rate_policies] + list(FORK_POLICIES)
    if param.lr_policy not in known:
        expected = "one of: " + ", ".join(known)
        problems.add(f"the policy '{param.lr_policy}'", expected=expected, field="lr_policy")
        return
    _check_fork(param, problems)
    plain = param.lr_policy not in FORK_POLICIES or param.warmup_iter > 0
    for name in (*["base_lr"] * plain, *NEEDED.get(param.lr_policy, ())):
        if not param.HasField(name):
            fix = f"write {name}: 0, which Caffe takes without a word" if name in UNSAID else ""
            problems.add(f"no {name} for the policy '{param.lr_policy}'", expected="a value", fix=fix, field=name)
    # A Caffe that checks none of these is crashed by stepsize 0; a sigmoid's may be anything, and so may gamma.
    dividing = ("step", "exp10", *(["sigmoid"] if own.checks_rates else []))
    if param.lr_policy in dividing and param.HasField("stepsize") and param.stepsize <= 0:
        problems.add(f"stepsize {param.stepsize}", expected="1 or more", field="stepsize")
    if own.checks_rates and "gamma" in NEEDED.get(param.lr_policy, ()) and param.gamma < 0:
        problems.add(f"gamma {param.gamma:g}", expected="0 or more", field="gamma")


def _check_fork(param: Any, problems: Problems) -> None:
    """Complain about fields of forks that say nothing clear."""
    if param.lr_policy == "multifixed" and not len(param.stagelr) == len(param.stageiter) > 0:
        found = f"{len(param.stageiter)} stageiter, {len(param.stagelr)} stagelr"
        problems.add(found, expected="one of each for every stage", field="stageiter")
    if param.min_lr and param.lr_policy != "poly":
        found = f"min_lr with the policy '{param.lr_policy}', where the fork's versions differ"
        problems.add(found, expected="the policy 'poly'", field="min_lr")
    if param.HasField("min_lr") and not 0 <= param.min_lr <= param.base_lr:
        problems.add(f"min_lr {param.min_lr:g}", expected="0 to base_lr", field="min_lr")
    inside = sum(value <= param.warmup_iter for value in param.stepvalue)
    if param.lr_policy == "multistep" and param.warmup_iter > 0 and inside > 1:
        found = f"{inside} values of stepvalue within the warm-up, which the fork does not take one by one"
        problems.add(found, expected="one at most", field="stepvalue")


def rate(param: Any, iteration: int, current_step: int = 0) -> float:
    """The learning rate of an iteration (completed updates); `current_step` is multistep's counter."""
    base, gamma, policy = param.base_lr, param.gamma, param.lr_policy
    if iteration < param.warmup_iter:
        return (iteration * base + (param.warmup_iter - iteration) * param.warmup_start_lr) / param.warmup_iter
    if policy == "step":
        return base * _power(gamma, iteration // param.stepsize)
    if policy == "exp":
        return base * _power(gamma, iteration)
    if policy == "inv":
        return base * _power(1 + gamma * iteration, -param.power)
    if policy == "multistep":
        return base * _power(gamma, current_step)
    if policy == "poly":
        left = _power(1 - iteration / param.max_iter, param.power) if param.max_iter else math.nan
        return param.min_lr + (base - param.min_lr) * left
    if policy == "sigmoid":
        return base / (1 + _power(math.e, -gamma * (iteration - param.stepsize)))
    if policy == "exp10":
        return base * _power(10, -iteration / param.stepsize)
    if policy == "multifixed":
        stages = zip(param.stageiter, param.stagelr, strict=True)
        return next((value for end, value in stages if iteration <= end), param.stagelr[-1])
    return base


def _power(base: float, exponent: float) -> float:
    """C's pow: infinite or no number where Python raises or turns to complex numbers."""
    with np.errstate(all="ignore"):
        return float(np.float64(base) ** np.float64(exponent))


def step_counter(param: Any, iteration: int, current_step: int) -> int:
    """The counter after an iteration's rate was asked for: step recomputes it, multistep moves at most one on.

    Neither moves while the rate warms up.
    """
    if iteration < param.warmup_iter:
        return current_step
    if param.lr_policy == "step":
        return iteration // param.stepsize
    if param.lr_policy == "multistep" and current_step < len(param.stepvalue):
        return current_step + (iteration >= param.stepvalue[current_step])
    return current_step
