"""Caffe's solver over a torch net: the same update, the same snapshots; semantics 3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prototxt_gen.errors import Problem, Problems, UsageError, WeightsError
from prototxt_gen.schema.dialect import NO_EVIDENCE
from prototxt_gen.schema.text import Parsed, read_prototxt
from prototxt_gen.schema.upgrade import upgrade_solver

from ..caffemodel import SolverState
from ..layers import show
from ..module import CaffeNet
from ..net import load_net, load_weights, run_values, save_caffemodel
from .parameters import gradients, learned_blobs
from .rates import check_policy, rate, step_counter
from .rules import FORK_TYPES, NO_MOMENTUM, RULES
from .states import read_solver_state, write_solver_state

Batch = Mapping[str, Any]


class Solver:
    """One training run: `step` for each iteration, `snapshot` and `restore` as Caffe writes and reads them."""

    def __init__(self, param: Any, dialect: str, net: CaffeNet, file: str = ""):
        self.param, self.dialect, self.net, self.file = param, dialect, net, file
        self.type = param.type if dialect == "bvlc" else FORK_TYPES[param.solver_type]
        self._check()
        self.update_rule, count, _ = RULES[self.type]
        self.learned = learned_blobs(net)
        self.history = [[torch.zeros_like(p.tensor) for p in self.learned] for _ in range(count)]
        self.iter = 0
        self.current_step = 0

    def _check(self) -> None:
        param = self.param
        with Problems(UsageError, self.file) as problems:
            check_policy(param, self.dialect, problems)
            known = [name for name, (_, _, dialects) in RULES.items() if self.dialect in dialects]
            if self.type not in known:
                problems.add(f"the solver type '{self.type}'", expected="one of: " + ", ".join(known), field="type")
            if self.type in NO_MOMENTUM and param.momentum:
                problems.add(f"momentum {param.momentum:g} with {self.type}", expected="none", field="momentum")
            if param.iter_size < 1:
                problems.add(f"iter_size {param.iter_size}", expected="1 or more", field="iter_size")
            if param.regularization_type not in ("L1", "L2"):
                found = f"the regularization '{param.regularization_type}'"
                problems.add(found, expected="L1 or L2", field="regularization_type")

    def rate(self, iteration: int | None = None) -> float:
        """The learning rate of an iteration (of the coming one by default)."""
        iteration = self.iter if iteration is None else iteration
        step = self.current_step if iteration == self.iter else 0
        if self.param.lr_policy == "multistep":
            for i in range(self.iter if step else 0, iteration + 1):
                step = step_counter(self.param, i, step)
        return rate(self.param, iteration, step)

    def step(self, batch: Batch | Sequence[Batch]) -> float:
        """One iteration; returns the weighted loss, the mean over `iter_size` passes.

        `batch` maps inputs to arrays and is used in every pass, or is a sequence of `iter_size` batches.
        """
        passes = [batch] * self.param.iter_size if isinstance(batch, Mapping) else list(batch)
        if len(passes) != self.param.iter_size:
            raise UsageError(f"{len(passes)} batches for iter_size {self.param.iter_size}")
        for item in self.learned:
            item.tensor.grad = None
        total = 0.0
        for entry in passes:
            loss = self.loss(entry)
            if loss.requires_grad:
                loss.backward()
            total += float(loss.detach())
        self.apply_update()
        return total / len(passes)

    def loss(self, batch: Batch) -> torch.Tensor:
        """The weighted loss of one forward pass: every top with a loss weight, summed (semantics 1.30)."""
        weighted = [v for node in self.net.caffe.nodes for v in node.tops if v.loss_weight]
        if not weighted:
            raise UsageError(
                Problem("the net has no loss to train on", "a loss layer, or a loss_weight", file=self.file)
            )
        device = self.learned[0].tensor.device if self.learned else torch.device("cpu")
        inputs = {k: torch.as_tensor(v, dtype=torch.float32, device=device) for k, v in batch.items()}
        outputs = {v.name for v in self.net.caffe.outputs}
        if all(v.name in outputs for v in weighted):
            found = self.net(**inputs)
            values = {v.name: found[v.blob] for v in weighted}
        else:
            values = run_values(self.net, inputs)
        terms = [value.sum() * v.loss_weight for v in weighted for value in [values[v.name]]]
        return torch.stack(terms).sum() if len(terms) > 1 else terms[0]

    @torch.no_grad()
    def apply_update(self) -> None:
        """Clip, normalise, regularise, update: in Caffe's order, from the gradients in `.grad` (semantics 3.2)."""
        param, learned = self.param, self.learned
        self.current_step = step_counter(param, self.iter, self.current_step)
        now = rate(param, self.iter, self.current_step)
        grads = gradients(learned)
        self._clip(grads)
        if param.iter_size > 1:
            torch._foreach_div_(grads, float(param.iter_size))
        self._regularise(grads)
        rates = [now * item.lr_mult for item in learned]
        updates = self.update_rule(param, grads, rates, self.history, self.iter)
        for item, update in zip(learned, updates, strict=True):
            # A sharer's update goes to the one storage that all of them see.
            learned[item.owner].tensor.sub_(update.reshape(learned[item.owner].tensor.shape))
        self.iter += 1

    def _clip(self, grads: list[torch.Tensor]) -> None:
        """Scale all gradients down when their common norm is too large; only owners count."""
        limit = self.param.clip_gradients
        owned = [g for i, (g, item) in enumerate(zip(grads, self.learned, strict=True)) if item.owner == i]
        if limit < 0 or not owned:
            return
        norm = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(owned))))
        if norm > limit:
            torch._foreach_mul_(owned, limit / norm)

    def _regularise(self, grads: list[torch.Tensor]) -> None:
        for grad, item in zip(grads, self.learned, strict=True):
            decay = self.param.weight_decay * item.decay_mult
            if decay:
                pull = item.tensor.sign() if self.param.regularization_type == "L1" else item.tensor
                grad.add_(pull, alpha=decay)

    def snapshot(self, prefix: str | Path | None = None) -> tuple[Path, Path]:
        """Write `<prefix>_iter_<n>.caffemodel` and `.solverstate` (`.h5` where the solver says so); returns both."""
        prefix = prefix if prefix is not None else self.param.snapshot_prefix
        suffix = ".h5" if getattr(self.param, "snapshot_format", 1) == 0 else ""
        stem = f"{prefix}_iter_{self.iter}"
        model, state = Path(f"{stem}.caffemodel{suffix}"), Path(f"{stem}.solverstate{suffix}")
        save_caffemodel(self.net, model)
        history = [t.detach().cpu().numpy() for group in self.history for t in group]
        write_solver_state(state, SolverState(self.iter, str(model), history, self.current_step))
        return model, state

    def restore(self, path: str | Path) -> None:
        """Continue from a .solverstate of Caffe's or ours: weights, history, iteration; raises WeightsError."""
        state = read_solver_state(path)
        flat = [t for group in self.history for t in group]
        with Problems(WeightsError, path) as problems:
            if len(state.history) != len(flat):
                found, expected = f"{len(state.history)} history blobs", f"{len(flat)} for {self.type} on this net"
                problems.add(found, expected=expected, fix="is it the state of another net or solver type?")
            else:
                for i, (mine, held) in enumerate(zip(flat, state.history, strict=True)):
                    if mine.numel() != held.size:
                        found, expected = show(held.shape), show(tuple(mine.shape))
                        problems.add(found, expected=expected, field=f"history[{i}]")
        if state.learned_net:
            load_weights(self.net, self._weights_of(Path(path), state.learned_net), strict=False)
        with torch.no_grad():
            for mine, held in zip(flat, state.history, strict=True):
                mine.copy_(torch.from_numpy(np.array(held, np.float32)).reshape(mine.shape))
        self.iter, self.current_step = state.iter, state.current_step

    @staticmethod
    def _weights_of(state: Path, named: str) -> Path:
        """The weights file that a state names: as it stands, or beside the state when both were moved."""
        for candidate in (Path(named), state.parent / named, state.parent / Path(named).name):
            if candidate.exists():
                return candidate
        beside = state.with_name(state.name.replace(".solverstate", ".caffemodel"))
        if beside.exists():
            return beside
        raise WeightsError(
            Problem(f"the weights '{named}' that it names are not there", fix="put them beside it", file=state)
        )


def load_solver(solver_prototxt: str | Path, net: CaffeNet | None = None, *, dialect: str | None = None) -> Solver:
    """A solver from Caffe's solver file; with `net` it trains that net, else the one the file names.

    Raises ParseError, UsageError or NetError with all problems. The net file is looked up from the current
    folder, as Caffe does, then beside the solver file. The dialect is declared, or the net's, or detected in
    either file.
    """
    file = Path(solver_prototxt)
    parsed = read_prototxt(file, "SolverParameter", dialect=net.caffe.dialect if net else dialect)
    if net is None:
        found = dialect or (parsed.dialect if parsed.reason != NO_EVIDENCE else None)
        net = _train_net(parsed.message, parsed, found)
        if net.caffe.dialect != parsed.dialect:
            parsed = read_prototxt(file, "SolverParameter", dialect=net.caffe.dialect)
    param, _ = upgrade_solver(parsed.message, parsed.dialect, str(file))
    return Solver(param, parsed.dialect, net, str(file))


def _train_net(param: Any, parsed: Parsed, dialect: str | None) -> CaffeNet:
    sources = [name for name in ("net", "net_param", "train_net", "train_net_param") if param.HasField(name)]
    if len(sources) != 1:
        found = ", ".join(sources) or "no net"
        raise UsageError(Problem(found, "one of net, net_param, train_net, train_net_param", file=parsed.file))
    value = getattr(param, sources[0])
    state: dict[str, Any] = {"stages": tuple(param.train_state.stage), "level": param.train_state.level}
    if sources[0].endswith("_param"):
        inner = Parsed(value, parsed.dialect, "as the solver file", parsed.file, [0] * len(value.layer))
        return load_net(inner, phase="TRAIN", **state)
    return load_net(net_path(parsed.file, value), phase="TRAIN", dialect=dialect, **state)


def net_path(solver: str, named: str) -> Path:
    """The net file that a solver names."""
    beside = Path(solver).parent / named
    return beside if not Path(named).exists() and beside.exists() else Path(named)
