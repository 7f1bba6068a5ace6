"""Caffe's training loop (Solver::Solve and Step), with data, tests, snapshots and records; semantics 3.1 and 3.4."""

from __future__ import annotations

import math
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prototxt_gen.base.errors import CaffeError, Problem, UsageError

from ..processes.progress import Speedometer
from ..processes.ranks import Ranks
from ..processes.signals import Signals
from ..solver import Solver
from .failures import understood
from .feeds import Feed
from .plateau import Plateau
from .records import Moment, Records
from .side import hidden_states, packed, write_side
from .smoothing import SmoothedLoss
from .testing import Scores, TestNet, mean_outputs

TRAINING, TESTING = range(2)  # what random numbers are for


class Trainer:
    """One run: `run` trains until max_iter, a signal or the end of the plateau schedule.

    Random numbers in an iteration are a function of the seed and the iteration, and batches one of the seed and
    their position: so a snapshot needs no more than positions, and a resumed run computes what the
    uninterrupted one would have.
    """

    def __init__(
        self,
        solver: Solver,
        feed: Feed,
        tests: list[TestNet],
        records: Records,
        *,
        prefix: str,
        seed: int = 0,
        ranks: Ranks | None = None,
        plateau: Plateau | None = None,
    ):
        self.solver, self.feed, self.tests, self.records = solver, feed, tests, records
        self.prefix, self.seed, self.plateau = prefix, seed, plateau
        self.ranks = ranks or Ranks()
        self.smoothed = SmoothedLoss(solver.param.average_loss, solver.iter)
        self.signals = Signals(patient=self.ranks.world > 1)
        self.last: Path | None = None  # the last snapshot's .solverstate
        self.last_iter = -1
        self.seconds = 0.0  # of training before this run
        self._started = time.monotonic()
        self._speed = Speedometer()
        self._unwritable = self._diverged = False
        self._mark: dict[str, Any] = {}
        self._statistics: list[torch.Tensor] = []

    # ---- the loop

    def run(self) -> int:
        """Train; returns the number of the signal that ended it early, or 0.

        Raises CaffeError when an iteration fails; its start is then the last snapshot.
        """
        solver, records = self.solver, self.records
        with self.signals:
            try:
                ended = self._step()
            except Exception as error:
                known = self._rescued(error)
                if known is None:
                    raise
                raise known from None
            param = solver.param
            if self.last_iter != solver.iter and (param.snapshot_after_train or ended):
                self.snapshot()
            if ended:
                records.say(f"Optimization stopped early, at iteration {solver.iter}.")
                return self.signals.stop
            self._finish()
        records.say("Optimization Done.")
        return 0

    def _step(self) -> bool:
        """Iterations until the end; whether a signal asked to stop (Solver::Step)."""
        solver, param = self.solver, self.solver.param
        while solver.iter < param.max_iter:
            self._set_mark()
            if self._test_is_due() and (solver.iter > 0 or param.test_initialization):
                self._test_all()
                if self._asked()[0]:
                    return True
                if self.plateau and self.plateau.ended:
                    return False
            self._iterate()
            stop, snapshot = self._asked()
            if snapshot or (param.snapshot and solver.iter % param.snapshot == 0):
                self._set_mark()
                self.snapshot()
            if stop:
                self._set_mark()
                return True
        self._set_mark()
        return False

    def _iterate(self) -> None:
        """One iteration: forward, backward, display, update."""
        solver, param = self.solver, self.solver.param
        iteration = solver.iter
        self._draw(TRAINING)
        solver.clear()
        total = 0.0
        for _ in range(param.iter_size):
            loss, outputs = solver.forward_backward(self.feed.next())
            total += loss
        (mean,) = self.ranks.means([total / param.iter_size])
        if not math.isfinite(mean) and not self._diverged:  # Caffe goes on without a word
            self._diverged = True
            self.records.say(f"The loss of iteration {iteration} is {mean:g}: a smaller base_lr, or clip_gradients?")
        smoothed = self.smoothed.add(mean, iteration)
        images = self._speed.passed(self._images())
        display = param.display and iteration % param.display == 0
        if display:
            shown = mean_outputs(solver.net, outputs, self.ranks)
            self.records.displayed(self._moment(), smoothed, images, shown)
        solver.apply_update()
        if display:
            self.records.log(f"Iteration {iteration}, lr = {solver.last_rate:g}")
        self.records.reached(solver.iter, solver.last_rate, smoothed, images)

    def _finish(self) -> None:
        """One more forward pass and one more test, for display (the end of Solver::Solve)."""
        solver, param = self.solver, self.solver.param
        if param.display and solver.iter % param.display == 0:
            self._draw(TRAINING)
            with torch.no_grad():
                loss = float(solver.loss(self.feed.next()))
            smoothed = self.smoothed.add(self.ranks.means([loss])[0], solver.iter)
            self.records.log(f"Iteration {solver.iter}, loss = {smoothed:g}")
        if self._test_is_due() and not (self.plateau and self.plateau.ended):
            self._test_all()

    def _images(self) -> int:
        """Images of one iteration, of all processes."""
        sizes = [value.shape[0] for value in self.solver.net.caffe.values[:1] if value.shape]
        return sum(sizes) * self.solver.param.iter_size * self.ranks.world

    def _moment(self) -> Moment:
        return Moment(self.solver.iter, self.solver.rate(), self._seconds())

    def _seconds(self) -> float:
        return self.seconds + time.monotonic() - self._started

    def _asked(self) -> tuple[bool, bool]:
        """Whether a signal to any process asks to stop, and for a snapshot."""
        asked = [float(bool(self.signals.stop)), float(self.signals.snapshot)]
        self.signals.snapshot = False
        stop, snapshot = (value > 0 for value in self.ranks.means(asked))
        if stop and not self.signals.stop:
            self.signals.stop = signal.SIGTERM
        return stop, snapshot

    def _draw(self, purpose: int) -> None:
        """Seed all that is random in what comes, by iteration."""
        own = self.ranks.rank if self.solver.habits.ranks_draw_apart else 0
        words = np.random.SeedSequence([self.seed + own, self.solver.iter, purpose]).generate_state(3)
        # Not torch.manual_seed: without a GPU it remembers every call for the day that there is one.
        torch.default_generator.manual_seed(int(words[0]))
        if self.ranks.device.type == "cuda":
            torch.cuda.manual_seed(int(words[0]))
        np.random.seed(int(words[1]))
        random.seed(int(words[2]))

    # ---- tests

    def _test_is_due(self) -> bool:
        interval = self.solver.param.test_interval
        return bool(interval and self.solver.iter % interval == 0)

    def _test_all(self) -> None:
        """All test nets (Solver::TestAll); the processes test together, or the first alone."""
        solver, together = self.solver, self.solver.habits.ranks_test_together
        if together:
            self.ranks.spread([*solver.net.parameters(), *solver.net.buffers()])
        self._draw(TESTING)
        for number, test in enumerate(self.tests):
            if not test.iterations:
                continue  # Caffe makes no pass and has no score
            self.records.log(f"Iteration {solver.iter}, Testing net (#{number})")
            scores: Scores | None = None
            if together or self.ranks.first:
                alone = self.ranks.world == 1
                ranks = self.ranks if together else Ranks(device=self.ranks.device)
                scores = test.run(ranks, lambda alone=alone: alone and bool(self.signals.stop))  # type: ignore[misc]
            scores = self.ranks.agreed(scores)
            if scores is None:
                self.records.log("Test interrupted.")
                return
            self.records.tested(self._moment(), number, scores, solver.param.test_compute_loss)
            if number == 0 and self.plateau:
                self._watch(scores.loss)
        self._speed.restart()

    def _watch(self, loss: float) -> None:
        """Let the schedule see a test's loss."""
        plateau = self.plateau
        assert plateau is not None
        if not plateau.tested(loss):
            return
        where = f"the test loss has not fallen for {plateau.patience} tests (best {plateau.best:g})"
        if plateau.ended:
            self.records.say(f"Plateau: {where} at the smallest rate {plateau.rate:g}: training ends")
        else:
            self.solver.fixed_rate = plateau.rate
            self.records.say(f"Plateau: {where}: the rate is {plateau.rate:g} from iteration {self.solver.iter} on")

    # ---- snapshots

    def _set_mark(self) -> None:
        """Remember what a snapshot of this moment holds, beside weights and history."""
        self._mark = {
            "iter": self.solver.iter,
            "seed": self.seed,
            "seconds": self._seconds(),
            "train": self.feed.state(),
            "tests": [test.feed.state() for test in self.tests],
            "loss": self.smoothed.state(),
            "plateau": self.plateau.state() if self.plateau else None,
            "hidden": [hidden_states(net) for net in (self.solver.net, *(test.net for test in self.tests))],
        }
        self._statistics = [blob.clone() for blob in self.solver.net.buffers()]

    def snapshot(self) -> None:
        """Write a snapshot of the marked moment; of several processes, the first does."""
        hidden = self.ranks.gathered(packed(self._mark["hidden"]))
        if self.ranks.first:
            self._write(hidden)
        self.last, self.last_iter = self.ranks.agreed(self.last), self.solver.iter
        self._speed.restart()

    def _write(self, hidden: list[Any]) -> None:
        side = {**self._mark, "hidden": hidden, "world": self.ranks.world}
        try:
            model, state = self.solver.snapshot(self.prefix, lambda path: write_side(side, path))
        except CaffeError as error:
            self._unwritable = True
            kept = f"the last one is {self.last}" if self.last else "there is no earlier one"
            fix = f"when that is mended, go on with --resume {self.last}" if self.last else "mend that, and start again"
            lost = Problem(f"there is no snapshot of iteration {self.solver.iter}; {kept}", fix=fix)
            raise type(error)([*error.problems, lost]) from None
        self.last, self.last_iter = state, self.solver.iter
        form = "HDF5" if state.suffix == ".h5" else "binary proto"
        self.records.log(f"Snapshotting to {form} file {model}")
        self.records.say(f"Snapshotting solver state to {form} file {state}")

    def _rescued(self, error: Exception) -> CaffeError | None:
        """Make the start of a failed iteration a snapshot; returns the error with the way on, if it is understood."""
        problems = understood(error)
        if self.ranks.first and not self._unwritable and self._mark:
            if self.solver.iter == self._mark["iter"]:
                with torch.no_grad():  # normalisation has seen batches of the failed iteration
                    for blob, kept in zip(self.solver.net.buffers(), self._statistics, strict=True):
                        blob.copy_(kept)
            else:
                self._set_mark()
            if 0 < self.solver.iter != self.last_iter:
                try:
                    # Other processes may be gone: their recurrent layers start anew, nothing else is their own.
                    self._write([packed(self._mark["hidden"])])
                except CaffeError as second:
                    problems += second.problems
        if self.last and not self._unwritable:
            found = f"iteration {self.solver.iter} is not done"
            problems.append(Problem(found, fix=f"when that is mended, go on with --resume {self.last}"))
        if isinstance(error, CaffeError):
            return type(error)(problems)
        return UsageError(problems) if understood(error) else None
