"""The nets that a solver file names, each with its phase, level and stages; Solver::InitTrainNet, InitTestNets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prototxt_gen.base.errors import CaffeError, Problem, Problems, UsageError
from prototxt_gen.schema.dialect import NO_EVIDENCE, detect_packs
from prototxt_gen.schema.packs import joined, split
from prototxt_gen.schema.printer import to_text
from prototxt_gen.schema.syntax import parse_tree
from prototxt_gen.schema.text import Parsed, read_prototxt
from prototxt_gen.schema.upgrade import upgrade_solver

from ..graph.state import phase_name
from ..layers.foreign import settings
from ..module import CaffeNet
from ..net import load_net
from .rates import FORK_FIELDS

TRAIN_FIELDS = ("net", "net_param", "train_net", "train_net_param")


@dataclass(frozen=True)
class NetSource:
    """A net's definition, the state it is meant for, and where it stands in words."""

    parsed: Parsed
    phase: str
    level: int
    stages: tuple[str, ...]
    place: str

    def load(self, weights: Any = None, **options: Any) -> CaffeNet:
        """The net, by the rules of `load_net`."""
        state: dict[str, Any] = {"phase": self.phase, "level": self.level, "stages": self.stages}
        return load_net(self.parsed, weights, **state, **options)


@dataclass(frozen=True)
class SolverFile:
    """A solver file as Caffe reads it, and its training net."""

    file: str
    param: Any
    dialect: str
    reason: str
    notes: list[str]
    train: NetSource
    packs: tuple[str, ...] = ()  # declared for all its nets

    def tests(self) -> list[NetSource]:
        """The test nets: test_net_param, test_net, then the general net for each test_iter that is left."""
        param = self.param
        with Problems(UsageError, self.file) as problems:
            _check_tests(param, problems)
        inner = [(f"test_net_param {i}", self._inner(net)) for i, net in enumerate(param.test_net_param)]
        named = self._named(param.test_net)
        definitions = inner + named
        general = (self.train.place, self.train.parsed)
        definitions += [general] * (len(param.test_iter) - len(definitions))
        states = list(param.test_state) or [None] * len(definitions)
        return [_source(*entry, "TEST", state) for entry, state in zip(definitions, states, strict=True)]

    def _named(self, names: Sequence[str]) -> list[tuple[str, Parsed]]:
        """The nets in test_net; raises CaffeError with the problems of all."""
        declared = joined(self.dialect, self.packs)
        found, problems = [], []
        for name in names:
            try:
                found.append((f"test_net '{name}'", _read(self.file, "test_net", name, declared)))
            except CaffeError as error:
                problems += error.problems
        if problems:
            raise UsageError(problems)
        return found

    def _inner(self, net: Any) -> Parsed:
        return _inner(net, self.dialect, self.file, self.packs)


def read_solver(path: str | Path, dialect: str | None = None) -> SolverFile:
    """Read a solver file and its training net; raises ParseError, UsageError or NetError with all problems.

    Nets are looked up from the current folder, as Caffe does, then beside the solver file. The dialect is
    declared, perhaps with packs of the nets' (`bvlc+ssd`, `+ssd`), or detected in either file; the solver is read in
    the net's.
    """
    parsed = read_prototxt(path, "SolverParameter", dialect=dialect)
    given, packs = split(dialect)
    found = given or (parsed.dialect if not parsed.reason.startswith(NO_EVIDENCE) else None)
    train = _train(parsed, found, packs)
    if train.parsed.dialect != parsed.dialect:
        parsed = read_prototxt(path, "SolverParameter", dialect=train.parsed.dialect)
    param, notes = upgrade_solver(parsed.message, parsed.dialect, str(path))
    refuse_foreign(param, parsed)
    reason = train.parsed.reason if given or not found else f"in the solver file, {parsed.reason}"
    return SolverFile(str(path), param, train.parsed.dialect, reason, notes, train, tuple(packs))


def refuse_foreign(param: Any, parsed: Parsed) -> None:
    """Raise UsageError for fields of forks that would change the training, all at once."""
    with Problems(UsageError, parsed.file) as problems:
        for entry in settings(param, parsed.dialect):
            if not entry.kept and entry.name not in FORK_FIELDS:
                found = f"the field is {', '.join(entry.forks)}'s, changes the training, and is not supported"
                problems.add(found, fix="remove it if the result may differ", field=entry.name)


def _train(parsed: Parsed, dialect: str | None, packs: Sequence[str]) -> NetSource:
    param = parsed.message
    given = [name for name in TRAIN_FIELDS if param.HasField(name)]
    if len(given) != 1:
        found = ", ".join(given) or "no net"
        raise UsageError(Problem(found, "one of " + ", ".join(TRAIN_FIELDS), file=parsed.file))
    value = getattr(param, given[0])
    if given[0].endswith("_param"):
        net = _inner(value, parsed.dialect, parsed.file, packs)
    else:
        net = _read(parsed.file, given[0], value, joined(dialect, packs))
    return train_source(param, net, given[0])


def train_source(param: Any, net: Parsed, place: str = "net") -> NetSource:
    """A net as a solver trains it: in its train_state (Solver::InitTrainNet)."""
    return _source(place, net, "TRAIN", param.train_state if param.HasField("train_state") else None)


def _inner(net: Any, dialect: str, file: str, declared: Iterable[str] = ()) -> Parsed:
    packs = detect_packs(parse_tree(to_text(net)), "NetParameter", dialect, declared)
    return Parsed(net, dialect, "as the solver file", file, [0] * len(net.layers or net.layer), packs)


def _read(solver: str, field: str, named: str, dialect: str | None) -> Parsed:
    path = net_path(solver, named)
    if not path.exists():
        fix = "write its path from the current folder, as Caffe reads it, or from the solver's"
        raise UsageError(Problem(f"there is no net '{named}'", fix=fix, field=field, file=solver))
    return read_prototxt(path, dialect=dialect)


def net_path(solver: str, named: str) -> Path:
    """The net file that a solver names."""
    beside = Path(solver).parent / named
    return beside if not Path(named).exists() and beside.exists() else Path(named)


def _source(place: str, parsed: Parsed, phase: str, state: Any) -> NetSource:
    """The solver's own state over the net file's, over the phase that is meant."""
    level, stages = 0, ()
    for given in (parsed.message.state, state):
        if given is None:
            continue
        phase = phase_name(given.phase) if given.HasField("phase") else phase
        level = given.level if given.HasField("level") else level
        stages += tuple(given.stage)
    return NetSource(parsed, phase, level, stages, place)


def _check_tests(param: Any, problems: Problems) -> None:
    """What Caffe refuses about test nets (Solver::InitTestNets)."""
    own = len(param.test_net) + len(param.test_net_param)
    general = param.HasField("net") or param.HasField("net_param")
    count = len(param.test_iter)
    if count < own or (count > own and not general):
        expected = f"{own}, one for each test net" + (", or more" if general else "")
        problems.add(f"{count} values", expected=expected, field="test_iter")
    elif len(param.test_state) not in (0, count):
        problems.add(f"{len(param.test_state)} values", expected=f"{count}, one for each test net", field="test_state")
    if count and param.test_interval < 1:
        fix = "set it, or remove test_iter"
        problems.add(f"{param.test_interval} with test nets", expected="1 or more", fix=fix, field="test_interval")
    for value in param.test_iter:
        if value < 0:
            problems.add(f"{value}", expected="0 or more", field="test_iter")
