"""Sets up a training run as its solver file and options say, and trains."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from prototxt_gen.base.errors import CaffeError, NetError, Problem, Problems, UsageError

from ..module import CaffeNet
from ..processes.ranks import Ranks, launched
from ..solver import Solver
from ..solver.nets import NetSource, SolverFile, read_solver
from ..weights.load import weight_files
from .feeds import Feed, open_feed
from .latest import latest_state, sound_state
from .options import LATEST, Options, check, choose_device, choose_prefix
from .plateau import Plateau
from .records import Records
from .side import read_side, restore_hidden
from .speed import apply_speed
from .testing import TestNet
from .trainer import Trainer

LARGEST_SEED = 2**31


def train(solver_prototxt: str | Path, options: Options | None = None) -> int:
    """Train as a solver file says; returns the number of the signal that ended the run early, or 0.

    Writes snapshots, a log, tables (see docs/training.md). Raises CaffeError with everything that is wrong
    before anything is trained; a failure in between leaves a snapshot first. Under torchrun all processes call
    it, and train together.
    """
    options = options or Options()
    file = read_solver(solver_prototxt, options.dialect)
    check(options, file)
    rank, world, _ = launched()
    ranks = Ranks(rank, world, choose_device(options, file))
    ranks.start()
    try:
        signal = _Setup(file, options, ranks).run()
        ranks.leave()
        return signal
    finally:
        ranks.stop()


class _Setup:
    """Everything between the files and the loop."""

    def __init__(self, file: SolverFile, options: Options, ranks: Ranks):
        self.file, self.options, self.ranks = file, options, ranks
        self.notes: list[str] = [f"{file.file}: {note}" for note in file.notes]
        self.prefix, note = choose_prefix(options, file)
        self.notes += [note] if note else []
        self.state = self._find_state()
        if options.resume == LATEST and self.state is None:
            self.notes.append(f"there is no snapshot {self.prefix}_iter_*.solverstate yet: training starts anew")
        older = None if self.state else latest_state(self.prefix)
        if older:
            self.notes.append(f"{older} is of an older run: --resume latest takes it until this run is past it")
        self.side = self._read_side()
        self.seed = self._choose_seed()

    def run(self) -> int:
        """Build, restore, train."""
        feed = self._feed(self.file.train, 0)
        net = self._net(self.file.train, feed, self._weights())
        tests = [self._test(i, source, net) for i, source in enumerate(self.file.tests())]
        solver = Solver(self.file.param, self.file.dialect, net, self.file.file)
        if self.state:
            solver.restore(self.state)
        else:
            self.ranks.spread([*net.parameters(), *net.buffers()])
        solver.exchange = self.ranks.average if self.ranks.world > 1 else None
        deviations = apply_speed(solver, self.options.speed)
        plateau = self._plateau()
        if plateau:
            deviations.append(self._plateau_note(plateau))
        resumed_at = solver.iter if self.state else None
        records = Records(self.prefix, self.ranks.first, resumed_at, solver.param.max_iter)
        try:
            trainer = Trainer(
                solver,
                feed,
                tests,
                records,
                prefix=self.prefix,
                seed=self.seed,
                ranks=self.ranks,
                plateau=plateau,
            )
            self._restore(trainer)
            self._introduce(trainer, deviations)
            return trainer.run()
        finally:
            records.close()
            for each in (feed, *(test.feed for test in tests)):
                each.close()

    # ---- nets and data

    def _feed(self, source: NetSource, number: int) -> Feed:
        """The feed of a net; test nets (from 1 on) draw other random numbers than the training net."""
        return open_feed(
            source,
            seed=self.seed + number * LARGEST_SEED,
            rank=self.ranks.rank,
            world=self.ranks.world,
            workers=self.options.workers,
            folders=[Path(self.file.file).parent],
        )

    def _net(self, source: NetSource, feed: Feed, weights: list[Path]) -> CaffeNet:
        net = source.load(weights or None, strict=False, seed=self.seed, input_shapes=feed.shapes())
        if weights:
            self.notes.append(f"{source.phase} net: {net.report}")
        if self.ranks.world > 1:
            with Problems(NetError, net.caffe.file) as problems:
                for node in net.caffe.nodes:
                    if node.layer.across_ranks:
                        found = f"{node.layer.type} with {self.ranks.world} processes"
                        fix = "train in one process, or remove the layer"
                        problems.add(found, fix=fix, layer=node.name, line=node.line)
        _move(net, self.ranks.device)
        return net

    def _test(self, number: int, source: NetSource, trained: CaffeNet) -> TestNet:
        feed = self._feed(source, number + 1)
        test = TestNet(self._net(source, feed, self._weights()), feed, self.file.param.test_iter[number])
        if not test.iterations:
            self.notes.append(f"test net {number}: test_iter is 0, so it is built and never run")
        own = test.share(trained)
        if own:
            self.notes.append(f"test net {number}: layers with parameters of their own: {', '.join(own)}")
        return test

    def _weights(self) -> list[Path]:
        """The weights to start from; a snapshot brings its own."""
        if self.state:
            return []
        given: Any = self.options.weights or getattr(self.file.param, "weights", ())
        return [path for entry in given for path in weight_files(str(entry))]

    # ---- what a snapshot brings

    def _find_state(self) -> Path | None:
        """The .solverstate to resume, if any."""
        resume = self.options.resume
        if resume is None or str(resume) != LATEST:
            return None if resume is None else Path(resume)
        state, passed_over = sound_state(self.prefix, self.options.restart_data)
        self.notes += passed_over
        return state

    def _read_side(self) -> dict[str, Any] | None:
        if self.state is None:
            return None
        if self.options.restart_data:
            self.notes.append("--restart-data: data and random numbers start anew")
            return None
        side, why = read_side(self.state)
        if side is None:
            self.notes.append(f"{self.state}: {why}: data and random numbers start anew")
        return side

    def _choose_seed(self) -> int:
        """The snapshot's seed, the option's, the solver's, or one drawn now."""
        wanted, param = self.options.seed, self.file.param
        if self.side:
            seed = self.side["seed"]
            if wanted not in (None, seed):
                fix = "leave --seed out, or give --restart-data too"
                raise UsageError(Problem(f"--seed {wanted}, and the snapshot goes on with {seed}", fix=fix))
            return seed
        if wanted is None:
            wanted = param.random_seed if param.random_seed >= 0 else None
        if wanted is None:
            wanted = self.ranks.agreed(int.from_bytes(os.urandom(4), "little") % LARGEST_SEED)
        return wanted

    def _restore(self, trainer: Trainer) -> None:
        """Bring data, losses, schedule and hidden states to where the snapshot was made."""
        if self.state:
            trainer.last, trainer.last_iter = self.state, trainer.solver.iter
        side = self.side
        if side is None:
            return
        if side["iter"] != trainer.solver.iter:
            found, expected = (
                f"the side file is of iteration {side['iter']}",
                f"{trainer.solver.iter}, as the state",
            )
            raise UsageError(Problem(found, expected, "use --restart-data", file=self.state or ""))
        trainer.feed.restore(side["train"])
        trainer.smoothed.restore(side["loss"])
        trainer.seconds = side["seconds"]
        for number, test in enumerate(trainer.tests):
            try:
                test.feed.restore(side["tests"][number])
            except (IndexError, CaffeError):
                self.notes.append(f"test net {number}: its data is not the snapshot's and starts anew")
        if trainer.plateau and side["plateau"]:
            trainer.plateau.restore(side["plateau"])
        elif trainer.plateau:
            self.notes.append("--plateau: the snapshot knows no such schedule, which starts anew")
        elif side["plateau"]:
            self.notes.append("the snapshot was made with --plateau; now the solver's own policy decides")
        if trainer.plateau:
            trainer.solver.fixed_rate = trainer.plateau.rate
        rank = self.ranks.rank if self.ranks.rank < len(side["hidden"]) else 0
        nets = [trainer.solver.net, *(test.net for test in trainer.tests)]
        for net, states in zip(nets, side["hidden"][rank], strict=False):
            restore_hidden(net, states, self.ranks.device)

    # ---- words

    def _plateau(self) -> Plateau | None:
        given = self.options.plateau
        return Plateau(self.file.param.base_lr, **asdict(given)) if given else None

    def _plateau_note(self, plateau: Plateau) -> str:
        policy = self.file.param.lr_policy
        return (
            f"--plateau: no Caffe has it; instead of the policy '{policy}' the rate starts at {plateau.rate:g} and is "
            f"multiplied by {plateau.factor:g} when {plateau.patience} tests in a row bring no loss lower by more than "
            f"{plateau.threshold:g} of the best, until {plateau.smallest:g}"
        )

    def _introduce(self, trainer: Trainer, deviations: list[str]) -> None:
        """Say what is about to happen, and what differs from Caffe."""
        records, solver, param = trainer.records, trainer.solver, self.file.param
        net = solver.net.caffe
        processes = f", {self.ranks.world} processes" if self.ranks.world > 1 else ""
        records.say(f"Training '{net.name}': dialect {net.dialect} ({self.file.reason})")
        records.say(f"On {self.ranks.device}{processes}, seed {self.seed}, {self.options.workers} processes load data")
        for note in self.notes:
            records.say(note)
        for field in ("debug_info", "snapshot_diff"):
            if getattr(param, field):
                records.say(f"{field} is not supported: it is ignored")
        for deviation in deviations:
            records.say(f"deviation from Caffe: {deviation}")
        records.log(f"Solving {net.name}")
        records.log(f"Learning Rate Policy: {'plateau' if trainer.plateau else param.lr_policy}")
        if self.state:
            records.say(f"Restoring previous solver status from {self.state}: iteration {solver.iter}")


def _move(net: CaffeNet, device: torch.device) -> None:
    """Put a net on a device; what layers make themselves follows."""
    if device.type == "cpu":
        return
    net.to(device)
    for node in net.caffe.nodes:
        if node.layer.type == "DummyData":
            net.layer(node.name).register_forward_hook(lambda _, __, made: _to(made, device))


def _to(made: Any, device: torch.device) -> Any:
    return made.to(device) if isinstance(made, torch.Tensor) else tuple(top.to(device) for top in made)
