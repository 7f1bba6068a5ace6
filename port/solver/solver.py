"""Caffe's solver over a torch net: the same update, the same snapshots; semantics 3."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prototxt_gen.base.errors import Problem, Problems, UsageError, WeightsError
from prototxt_gen.base.files import atomic_write
from prototxt_gen.schema.habits import habits
from prototxt_gen.schema.text import read_prototxt
from prototxt_gen.schema.upgrade import upgrade_solver

from ..caffemodel import SolverState
from ..layers import show
from ..module import CaffeNet
from ..net import load_weights, save_caffemodel
from .nets import read_solver, refuse_foreign
from .parameters import Learned, gradients, learned_blobs
from .passes import Batch, Outputs, Passes
from .publishing import publishing
from .rates import check_policy, rate, step_counter
from .rules import DECAYS, FORK_TYPES, NO_MOMENTUM, RULES, add_scaled
from .states import read_solver_state, weights_of, write_solver_state


class Solver:
    """One training run: `step` for each iteration, `snapshot` and `restore` as Caffe writes and reads them.

    What stands outside of Caffe's own loop hooks in here: `passes` runs the net, `exchange` changes the gradients
    of all blobs before the update (several processes), `update` applies them, `fixed_rate` replaces the policy.
    """

    def __init__(self, param: Any, dialect: str, net: CaffeNet, file: str = ""):
        self.param, self.dialect, self.net, self.file = param, dialect, net, file
        self.habits = habits(dialect)
        self.type = param.type if self.habits.solver_type_is_a_word else FORK_TYPES[param.solver_type]
        self._check()
        self.update_rule, count, _ = RULES[self.type]
        self.learned = learned_blobs(net)
        self.history = [[torch.zeros_like(p.tensor) for p in self.learned] for _ in range(count)]
        self.iter = 0
        self.current_step = 0
        self.last_rate = 0.0  # of the last update
        self.fixed_rate: float | None = None
        self.exchange: Callable[[list[torch.Tensor]], None] | None = None
        self.update: Callable[[list[Learned], list[torch.Tensor], list[float]], None] = self._update
        self.passes = Passes(net)
        self.moving = self._find_moving()

    def _check(self) -> None:
        param = self.param
        with Problems(UsageError, self.file) as problems:
            check_policy(param, self.dialect, problems)
            known = [name for name, (_, _, dialects) in RULES.items() if self.dialect in dialects]
            if self.type not in known:
                field = "type" if self.habits.solver_type_is_a_word else "solver_type"
                problems.add(f"the solver type '{self.type}'", expected="one of: " + ", ".join(known), field=field)
            if self.type in NO_MOMENTUM and param.momentum:
                problems.add(f"momentum {param.momentum:g} with {self.type}", expected="none", field="momentum")
            for name in DECAYS.get(self.type, ()) if self.type in known else ():
                value = getattr(param, name)
                if not 0 <= value < 1:
                    found = f"{name} {value:g} with {self.type}"
                    problems.add(found, expected="0 or more, and below 1", field=name)
            for name in ("iter_size", "average_loss"):
                value = getattr(param, name)
                if value < 1:
                    problems.add(f"{name} {value}", expected="1 or more", field=name)
            if param.regularization_type not in ("L1", "L2"):
                found = f"the regularization '{param.regularization_type}'"
                problems.add(found, expected="L1 or L2", field="regularization_type")

    def rate(self, iteration: int | None = None) -> float:
        """The learning rate of an iteration (of the coming one by default)."""
        if self.fixed_rate is not None:
            return self.fixed_rate
        iteration = self.iter if iteration is None else iteration
        first, step = (self.iter, self.current_step) if iteration >= self.iter else (0, 0)
        if self.param.lr_policy == "multistep":
            for i in range(first, iteration + 1):
                step = step_counter(self.param, i, step)
        return rate(self.param, iteration, step)

    def step(self, batch: Batch | Sequence[Batch]) -> float:
        """One iteration; returns the weighted loss, the mean over `iter_size` passes.

        `batch` maps inputs to arrays and is used in every pass, or is a sequence of `iter_size` batches.
        """
        passes = [batch] * self.param.iter_size if isinstance(batch, Mapping) else list(batch)
        if len(passes) != self.param.iter_size:
            raise UsageError(f"{len(passes)} batches for iter_size {self.param.iter_size}")
        self.clear()
        total = sum(self.forward_backward(entry)[0] for entry in passes)
        self.apply_update()
        return total / len(passes)

    def clear(self) -> None:
        """Drop all gradients."""
        for item in self.learned:
            item.clear()

    def forward_backward(self, batch: Batch) -> tuple[float, Outputs]:
        """One pass that adds to the gradients: its weighted loss, and the net's outputs."""
        loss, outputs = self.forward(batch)
        if loss.requires_grad:
            loss.backward()
        return float(loss.detach()), {blob: value.detach() for blob, value in outputs.items()}

    def loss(self, batch: Batch) -> torch.Tensor:
        """The weighted loss of one forward pass."""
        return self.forward(batch)[0]

    def forward(self, batch: Batch) -> tuple[torch.Tensor, Outputs]:
        """One forward pass: the weighted loss and all outputs."""
        if not self.passes.weighted:
            problem = Problem("the net has no loss to train on", "a loss layer, or a loss_weight", file=self.file)
            raise UsageError(problem)
        return self.passes(batch)

    @torch.no_grad()
    def apply_update(self) -> None:
        """Clip, normalise, regularise, update: in Caffe's order, from the gradients in `.grad` (semantics 3.2).

        The gradients are used up.
        """
        param = self.param
        self._set_rate()
        for item in self.learned:
            item.gather()
        if self.exchange:
            self.exchange([item.tensor.grad for item in self.learned if item.tensor.grad is not None])
        self._clip()
        learned = [self.learned[i] for i in self.moving]
        grads = gradients(learned)
        if grads:  # of some nets nothing learns, and torch refuses empty lists
            if param.iter_size > 1:
                torch._foreach_div_(grads, float(param.iter_size))
            self.update(learned, grads, [self.last_rate * item.lr_mult for item in learned])
        self.iter += 1

    def _set_rate(self) -> None:
        """Choose the rate of this update; raises UsageError for one that would leave no weight a number."""
        param, fixed = self.param, self.fixed_rate
        self.current_step = step_counter(param, self.iter, self.current_step)
        self.last_rate = rate(param, self.iter, self.current_step) if fixed is None else fixed
        if not math.isfinite(self.last_rate):
            found = f"the rate of iteration {self.iter} is {self.last_rate:g} with max_iter {param.max_iter}"
            raise UsageError(Problem(found, "a number", field="lr_policy", file=self.file))

    def _find_moving(self) -> list[int]:
        """The blobs that an update can change; a frozen one without momentum never moves, nor does its history."""
        places = range(len(self.learned))
        if self.type not in ("SGD", "Nesterov"):
            return list(places)
        (held,) = self.history
        return [i for i in places if self.learned[i].lr_mult or bool(held[i].any())]

    def _clip(self) -> None:
        """Scale all gradients down when their common norm is too large; only owners count."""
        limit = self.param.clip_gradients
        owned = [item.tensor.grad for i, item in enumerate(self.learned) if item.owner == i]
        grads = [grad for grad in owned if grad is not None]
        if limit < 0 or not grads:
            return
        norm = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads))))
        if norm > limit:
            torch._foreach_mul_(grads, limit / norm)

    def _update(self, learned: list[Learned], grads: list[torch.Tensor], rates: list[float]) -> None:
        values = [item.tensor for item in learned]
        pulls = values if self.param.regularization_type == "L2" else [value.sign() for value in values]
        add_scaled(grads, pulls, [self.param.weight_decay * item.decay_mult for item in learned])
        history = [[group[i] for i in self.moving] for group in self.history]
        updates = self.update_rule(self.param, grads, rates, history, self.iter)
        own = [item.owner == i for i, item in zip(self.moving, learned, strict=True)]
        if any(own):
            torch._foreach_sub_(list(compress(values, own)), list(compress(updates, own)))
        for item, update, mine in zip(learned, updates, own, strict=True):
            if not mine:  # to the one storage that all sharers see
                owner = self.learned[item.owner].tensor
                owner.sub_(update.reshape(owner.shape))

    def snapshot(
        self, prefix: str | Path | None = None, side: Callable[[Path], bytes] | None = None
    ) -> tuple[Path, Path]:
        """Write `<prefix>_iter_<n>.caffemodel` and `.solverstate` (`.h5` where the solver says so); returns both.

        `side` makes the content of a third file, `.portstate`, from the written state. All appear when all are
        written, the state last; raises CaffeError (disk full, no permission) and then leaves what was there.
        """
        prefix = prefix if prefix is not None else self.param.snapshot_prefix
        suffix = ".h5" if getattr(self.param, "snapshot_format", 1) == 0 else ""
        stem = f"{prefix}_iter_{self.iter}"
        model, state = Path(f"{stem}.caffemodel{suffix}"), Path(f"{stem}.solverstate{suffix}")
        extra = [Path(f"{stem}.portstate")] if side else []
        with publishing(model, *extra, state) as (model_part, *extra_part, state_part):
            save_caffemodel(self.net, model_part)
            history = [t.detach().cpu().numpy() for group in self.history for t in group]
            write_solver_state(state_part, SolverState(self.iter, str(model), history, self.current_step))
            if side:
                with atomic_write(extra_part[0]) as file:
                    file.write(side(state_part))
        return model, state

    def restore(self, path: str | Path) -> None:
        """Continue from a .solverstate of Caffe's or ours: weights, history, iteration; raises WeightsError."""
        state = read_solver_state(path)
        flat = [t for group in self.history for t in group]
        with Problems(WeightsError, path) as problems:
            if len(state.history) != len(flat):
                found, expected = (
                    f"{len(state.history)} history blobs",
                    f"{len(flat)} for {self.type} on this net",
                )
                problems.add(found, expected=expected, fix="is it the state of another net or solver type?")
            else:
                for i, (mine, held) in enumerate(zip(flat, state.history, strict=True)):
                    if mine.numel() != held.size:
                        found, expected = show(held.shape), show(tuple(mine.shape))
                        problems.add(found, expected=expected, field=f"history[{i}]")
        if state.learned_net:
            load_weights(self.net, weights_of(Path(path), state.learned_net), strict=False)
        with torch.no_grad():
            for mine, held in zip(flat, state.history, strict=True):
                mine.copy_(torch.from_numpy(np.array(held, np.float32)).reshape(mine.shape))
        self.iter, self.current_step = state.iter, state.current_step
        self.moving = self._find_moving()


def load_solver(
    solver_prototxt: str | Path,
    net: CaffeNet | None = None,
    *,
    dialect: str | None = None,
    faithful_bugs: bool = False,
) -> Solver:
    """A solver from Caffe's solver file; with `net` it trains that net, else the one the file names.

    Raises ParseError, UsageError or NetError with all problems. The net file is looked up from the current
    folder, as Caffe does, then beside the solver file. The dialect is declared, or the net's, or detected in
    either file. `faithful_bugs` trains as Caffe did where that is wrong (docs/layers.md).
    """
    if net is None:
        found = read_solver(solver_prototxt, dialect)
        return Solver(found.param, found.dialect, found.train.load(faithful_bugs=faithful_bugs), found.file)
    if faithful_bugs and not net.caffe.faithful_bugs:
        raise UsageError("faithful_bugs with a net that was loaded without it; give it to load_net")
    parsed = read_prototxt(solver_prototxt, "SolverParameter", dialect=net.caffe.dialect)
    param, _ = upgrade_solver(parsed.message, parsed.dialect, parsed.file)
    refuse_foreign(param, parsed)
    return Solver(param, parsed.dialect, net, parsed.file)
