"""The released net on its images, held against the authors' predictions: first a sample, then all of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

from port.graph.build import load_graph
from port.graph.graph import Graph
from port.images.lists import SUFFIXES
from port.module import CaffeNet
from port.net import load_net, params
from port.scoring import BATCH, Options, compute_scores, image_input, score, score_output
from port.weights.load import open_weights
from prototxt_gen.base.errors import CaffeError, DataError

from ..evaluation.scores import read_scores
from .agreement import TOLERANCE, Agreement, agree, six_decimals
from .consistency import Consistency, order_fault
from .diagnosis import Diagnosis, Doctor, spread
from .faults import Fault, damaged, some
from .files import Release, classes_of
from .sampling import Sampler

SAMPLE = 24
LONG = 1000  # images: a run worth resuming
HUGE = 1e8  # no weight of a trained net is near it; a flipped exponent bit makes one


@dataclass(frozen=True)
class NetOptions:
    """How the net is run. `keep_going`: on all images, even when no image of the sample agrees."""

    image_root: Path
    device: str | None = None
    sample: int = SAMPLE
    tolerance: float = TOLERANCE
    keep_going: bool = False
    scores_out: Path | None = None  # with it, a run that was cut off goes on where it was
    batch: int = BATCH


@dataclass
class NetResult:
    """What the net gave. `scores` are of the evaluated images, None when it did not run on all of them."""

    about: str = ""  # which net, which dialect
    agreement: Agreement | None = None
    diagnosis: Diagnosis | None = None
    scores: NDArray[np.float64] | None = None
    faults: list[Fault] = field(default_factory=list)


def run_net(
    release: Release, found: Consistency, options: NetOptions, say: Callable[[str], None] = lambda line: None
) -> NetResult:
    """Run the net of a release on its evaluated images; a file that cannot be used becomes a fault."""
    result = NetResult()
    images = _images(release, options.image_root, result.faults)
    net = _net(release, result)
    if net is None or not images:  # no image is evaluated where the index of NUS-WIDE is missing or damaged
        return result
    session = _Session(release, found, options, net, images, result)
    if release.scores is not None and len(images) > options.sample:
        say(f"a sample of {options.sample} of {len(images):,} images against the authors' scores")
        if session.sample_differs():
            say("half of them or more differ: looking for the reason")
            session.diagnose()
            if not options.keep_going:
                return result
    hint = "" if options.scores_out or len(images) < LONG else "; with --scores-out a run that is cut off goes on"
    say(f"all {len(images):,} images{hint}")
    session.run_all()
    if result.agreement is not None and not result.agreement and result.diagnosis is None:
        say("some images differ: looking for the reason")
        session.diagnose()
    return result


class _Session:
    def __init__(
        self,
        release: Release,
        found: Consistency,
        options: NetOptions,
        net: CaffeNet,
        images: list[Path],
        result: NetResult,
    ):
        self.release, self.found, self.options, self.result = release, found, options, result
        self.net, self.images = net, images
        self.place = {int(line): i for i, line in enumerate(release.rows)}  # line of the list -> image

    def sample_differs(self) -> bool:
        """Compare a sample spread over all images; whether half of it or more differs."""
        lines = spread(self.options.sample, self.release.rows)
        try:
            scores = self._compute([self.images[self.place[int(line)]] for line in lines])
        except DataError:
            return False  # an image that cannot be read: the run of all images names every one
        return 2 * int(self._compare(scores, lines).differing.sum()) >= len(lines)

    def run_all(self) -> None:
        """Compute and compare every evaluated image."""
        try:
            out = self.options.scores_out
            scores = self._compute(self.images) if out is None else self._written(out)
        except DataError as error:
            self.result.faults.append(damaged(self.options.image_root, error, "fetch these images again"))
            return
        self.result.scores = scores
        if self.release.scores is not None:
            self._compare(scores, self.release.rows)

    def _written(self, path: Path) -> NDArray[np.float64]:
        """The scores of all images, by way of a file; beside it a journal of what is computed."""
        files = self.release.paths
        wanted = Options(
            output=path,
            prototxt=files["prototxt"],
            caffemodel=str(files["caffemodel"]),
            images=self.images,
            device=self.options.device,
            batch=self.options.batch,
        )
        with redirect_stdout(sys.stderr):
            stopped = score(wanted)
        if stopped:
            raise KeyboardInterrupt
        return read_scores(path)

    def diagnose(self) -> None:
        """Look for the reason why images differ, on a sample of those that do."""
        agreement, theirs = self.result.agreement, self.release.scores
        assert agreement is not None and theirs is not None
        lines = spread(self.options.sample, agreement.rows[agreement.differing])
        paths = [self.images[self.place[int(line)]] for line in lines]
        files = self.release.paths
        sampler = Sampler(self.net, files["prototxt"], files["caffemodel"], paths, self.options.device)
        off, of = int(agreement.differing.sum()), len(agreement.rows)
        agreeing = f"{of - off:,} of {of:,} images agree" if 2 * off < of else ""
        diagnosis = Doctor(sampler, lines, theirs, self.options.tolerance, agreeing).examine()
        if diagnosis.order is not None:
            right = agreement.rows[~agreement.differing]
            self.result.faults.append(order_fault(self.release, self.found, diagnosis.order, right))
        self.result.faults += diagnosis.faults
        self.result.diagnosis = diagnosis

    def _compute(self, images: Sequence[Path]) -> NDArray[np.float64]:
        scores = compute_scores(self.net, images, batch=self.options.batch, device=self.options.device)
        return six_decimals(scores)

    def _compare(self, scores: NDArray[np.float64], lines: NDArray[np.intp]) -> Agreement:
        theirs = self.release.scores
        assert theirs is not None
        of = len(self.release.rows)
        self.result.agreement = agree(scores, theirs[lines], lines, self.options.tolerance, of)
        return self.result.agreement


def _images(release: Release, root: Path, faults: list[Fault]) -> list[Path] | None:
    """The files of the evaluated images; None, and a fault, when some are not there."""
    if release.names is None:
        return None
    # The authors' program glues root and name together, so a leading slash is not the disk's root.
    paths = {int(line): root / release.names[line].lstrip("/") for line in release.rows}
    absent = [
        line for line, path in paths.items() if not os.path.isfile(path)
    ]  # False for names that no disk takes, too
    if not absent:
        return list(paths.values())
    text = f"{len(absent):,} of the {len(paths):,} images of {release.paths['image_list'].name} are not below it"
    evidence = some([f"line {line + 1}: there is no image {paths[line]}" for line in absent])
    faults.append(Fault("missing", text, root, tuple(evidence), _way_out(root, release.names[absent[0]].lstrip("/"))))
    return None


def _way_out(root: Path, name: str) -> str:
    """What may lead to an image that is not below the root: another root, or another path in the list."""
    near = [root.absolute().parent, *sorted(path for path in root.glob("*") if path.is_dir())]
    better = next((folder for folder in near if os.path.isfile(folder / name)), None)
    if better:
        return f"is it --image-root {better}?"
    there = next((other for other in _other_names(name) if os.path.isfile(root / other)), None)
    if there:
        return f"there is {there}: the list has other paths; put the images where it says, or links to them"
    return "check --image-root; it holds the paths of the list"


def _other_names(name: str) -> Iterator[str]:
    """How else an image may be named: "/" for a backslash, another ending, without its first folders."""
    parts = name.replace("\\", "/").split("/")
    for first in range(len(parts)):
        path = "/".join(parts[first:])
        stem = path.rpartition(".")[0] or path
        yield from (path, *(stem + ending for ending in SUFFIXES), *(stem + ending.upper() for ending in SUFFIXES))


def _net(release: Release, result: NetResult) -> CaffeNet | None:
    """The net with its weights; None, and the faults, when it is not to be had."""
    prototxt, caffemodel = release.paths.get("prototxt"), release.paths.get("caffemodel")
    if prototxt is None or caffemodel is None:
        return None
    try:
        graph = load_graph(prototxt)
        blob, high, wide = image_input(SimpleNamespace(caffe=graph))
        output, classes = score_output(SimpleNamespace(caffe=graph))
    except CaffeError as error:
        result.faults.append(damaged(prototxt, error))
        return None
    if classes != release.table.classes:
        result.faults.append(_other_net(release, prototxt, f"output '{output}' has {classes} classes", classes))
        return None
    try:
        net = load_net(prototxt, caffemodel)
    except CaffeError as error:
        result.faults.append(_weights_fault(release, caffemodel, graph, error))
        return None
    reason = f"dialect {net.caffe.dialect} ({net.caffe.reason})"
    result.about = f"net '{net.caffe.name}', {reason}; input '{blob}' 3x{high}x{wide}, output '{output}'"
    bad = list(_bad_weights(net))
    if bad:
        text = f"{len(bad)} blobs hold values that no net has"
        result.faults.append(Fault("damaged", text, caffemodel, tuple(some(bad)), "fetch the file again"))
        return None
    return net


def _other_net(release: Release, file: Path, found: str, classes: int) -> Fault:
    whose = classes_of(classes, release.table.key)
    text = f"{found}; expected {release.table.classes}, the classes of {release.table.dataset}"
    return Fault("other data set", f"{text}{'; ' if whose else ''}{whose}", file)


def _weights_fault(release: Release, file: Path, graph: Graph, error: CaffeError) -> Fault:
    """Weights that do not load: those of another data set's net, where only layers with C outputs differ; damaged."""
    classes = release.table.classes
    try:
        stored = {layer.name: layer.blobs for layer in open_weights(file).layers}
    except CaffeError:
        return damaged(file, error)
    sized = {n.name for n in graph.nodes if n.specs and n.specs[0].shape[:1] == (classes,)}
    others = {stored[name][0].shape[0] for name in sized if stored.get(name) and stored[name][0].shape}
    if len(others) == 1 and classes not in others:
        count = others.pop()
        whole = _other_net(release, file, f"the weights are for {count} classes", count)
        return Fault(whole.kind, whole.text, file, damaged(file, error).evidence)
    return damaged(file, error, "is it the file of another net? Fetch it again")


def _bad_weights(net: CaffeNet) -> Iterator[str]:
    """Blobs with NaN, infinity, values beyond all measure, or nothing but zeros where a layer has weights."""
    for layer, blobs in params(net).items():
        specs = net.caffe.node(layer).specs
        for number, (spec, blob) in enumerate(zip(specs, blobs, strict=True)):
            values = blob.detach().cpu().numpy()
            wild = ~(np.abs(values) < HUGE)
            negative = values < 0 if spec.name == "variance" else np.zeros(1, bool)
            if wild.any():
                example = values[wild][0]
                yield f"layer '{layer}', blob {number} ({spec.name}): {int(wild.sum()):,} values such as {example:g}"
            elif negative.any():
                yield f"layer '{layer}', blob {number} ({spec.name}): {int(negative.sum()):,} negative variances"
            elif spec.name == "weight" and not values.any():
                yield f"layer '{layer}', blob {number} ({spec.name}): all {values.size:,} values are 0"
