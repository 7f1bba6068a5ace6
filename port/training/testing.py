"""Test nets: they see the training net's live parameters, and report means over `test_iter` batches; semantics 3.4."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from prototxt_gen.base.errors import NetError, Problems

from ..layers import show
from ..module import CaffeNet
from ..processes.ranks import Ranks
from ..solver.passes import Passes
from .feeds import Feed


@dataclass(frozen=True)
class Output:
    """One output blob of a net: its loss weight and its values, flat."""

    blob: str
    weight: float
    values: tuple[float, ...]

    def lines(self, start: int) -> list[str]:
        """As Caffe's log says it, elements numbered from `start`."""
        lines = []
        for i, value in enumerate(self.values, start):
            loss = f" (* {self.weight:g} = {self.weight * value:g} loss)" if self.weight else ""
            lines.append(f"#{i}: {self.blob} = {value:g}{loss}")
        return lines

    @property
    def columns(self) -> dict[str, float]:
        """The elements under names that tell them apart."""
        if len(self.values) == 1:
            return {self.blob: self.values[0]}
        return {f"{self.blob}[{i}]": value for i, value in enumerate(self.values)}


@dataclass
class Scores:
    """What a test pass found: the outputs' means and the mean weighted loss."""

    outputs: list[Output] = field(default_factory=list)
    loss: float = 0.0

    def lines(self) -> list[str]:
        """All elements as Caffe's log says them."""
        return numbered(self.outputs)


def numbered(outputs: Sequence[Output]) -> list[str]:
    """The elements of all outputs, numbered through."""
    lines: list[str] = []
    for output in outputs:
        lines += output.lines(len(lines))
    return lines


def mean_outputs(net: CaffeNet, found: dict[str, torch.Tensor], ranks: Ranks) -> list[Output]:
    """The outputs of one pass, averaged over the processes."""
    values = {v.blob: found[v.blob].detach().reshape(-1).double() for v in net.caffe.outputs}
    ranks.average(list(values.values()))
    return [Output(v.blob, v.loss_weight, tuple(values[v.blob].tolist())) for v in net.caffe.outputs]


class TestNet:
    """A test net with its feed; `run` is one test pass."""

    __test__ = False  # not a case for pytest

    def __init__(self, net: CaffeNet, feed: Feed, iterations: int):
        self.net, self.feed, self.iterations = net, feed, iterations
        self.passes = Passes(net)

    def share(self, trained: CaffeNet) -> list[str]:
        """Take the training net's parameters and statistics themselves, layer by name (Net::ShareTrainedLayersWith).

        Returns the layers that keep their own; raises NetError with all that do not fit.
        """
        theirs = {node.name: trained.layer(node.name) for node in trained.caffe.nodes if node.specs}
        own = []
        with Problems(NetError, self.net.caffe.file) as problems:
            for node in self.net.caffe.nodes:
                if not node.specs:
                    continue
                if node.name not in theirs:
                    own.append(node.name)
                    continue
                module, source = self.net.layer(node.name), theirs[node.name].blobs
                mine = [spec.shape for spec in node.specs]
                shapes = [tuple(blob.shape) for blob in source]
                if mine != shapes:
                    found = f"blobs {', '.join(map(show, mine))} in the test net"
                    expected = ", ".join(map(show, shapes)) + ", as in the training net"
                    problems.add(found, expected=expected, layer=node.name, line=node.line)
                    continue
                for i, blob in enumerate(source):
                    module.set_blob(i, blob)
        return own

    @torch.no_grad()
    def run(self, ranks: Ranks, stopped: Callable[[], bool]) -> Scores | None:
        """One test pass, averaged over the processes; None when `stopped` says so in between."""
        totals: dict[str, torch.Tensor] = {}
        losses = 0.0
        for _ in range(self.iterations):
            if stopped():
                return None
            loss, found = self.passes(self.feed.next())
            losses += float(loss)
            for blob, value in found.items():
                flat = value.reshape(-1).double()
                totals[blob] = totals[blob] + flat if blob in totals else flat.clone()
        outputs = mean_outputs(self.net, {blob: total / self.iterations for blob, total in totals.items()}, ranks)
        return Scores(outputs, ranks.means([losses / self.iterations])[0])
