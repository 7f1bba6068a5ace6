"""Why a net's scores are not the authors': hypotheses tried on a sample of the images that differ."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prototxt_gen.base.files import read_head

from .faults import Fault, some
from .forms import FORMS, Single, fitted, single_values
from .holes import holes
from .matching import Order, match_columns, match_rows, say_columns
from .preparations import PREPARATIONS, one_level_off
from .sampling import Sampler

Scores = NDArray[Any]
SIZES = (224, 256, 299, 320, 384, 448)  # inputs in use; the paper's is the first
CLOSE = 4.0  # times nearer than the scores as they are: worth a word, though not equal
DECODER = 3.0  # times what one grey level moves: still no more than another decoder


@dataclass(frozen=True)
class Trial:
    """One hypothesis on the sample: how many images agree with it, and how far off the scores are then."""

    kind: str
    text: str
    agree: int
    of: int
    mean: float
    reordered: bool = False  # the images agree with other lines of the authors' file

    @property
    def explains(self) -> bool:
        return 2 * self.agree >= self.of

    def __str__(self) -> str:
        lines = ", in other lines" if self.reordered else ""
        return f"{self.agree} of {self.of}{lines}: {self.text} (mean difference {self.mean:.1e})"


@dataclass
class Diagnosis:
    """What was tried and what follows; `order` is where the scores were found in the authors' file."""

    sample: int
    trials: list[Trial] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    order: Order | None = None  # when it is another one

    @property
    def in_order(self) -> bool:
        """Whether the images agree with their own lines of the authors' file, in whichever form or preparation."""
        return any(trial.explains and not trial.reordered for trial in self.trials)

    def lines(self) -> list[str]:
        """For people: every hypothesis, those that explain most first."""
        head = f"tried on a sample of {self.sample} images that differ; how many agree with the authors' scores:"
        best = sorted(self.trials, key=lambda trial: (-trial.agree, trial.mean))
        return [head, *(f"  {trial}" for trial in best)]

    def data(self) -> dict[str, Any]:
        """For JSON."""
        return {"sample": self.sample, "tried": [asdict(trial) for trial in self.trials]}


class Doctor:
    """Tries the hypotheses in turn, cheap ones first, until one explains all of the sample."""

    def __init__(self, sampler: Sampler, lines: NDArray[np.intp], theirs: Scores, tolerance: float, agreeing: str = ""):
        """`lines` differ; `agreeing` says how many others agree, when those are most."""
        self.sampler, self.lines, self.all, self.tolerance = sampler, lines, theirs, tolerance
        self.agreeing = agreeing
        self.theirs = theirs[lines]
        self.result = Diagnosis(len(lines))
        self.ours = sampler.scores()

    def examine(self) -> Diagnosis:
        """Run the hypotheses and conclude."""
        base = self.judge("", "as the authors' program prepares them", self.ours)
        self._columns()
        single = single_values(self.ours, self.theirs, self.tolerance)
        if single is not None and len(self.result.trials) == 1 and not base.reordered:  # no other order of columns
            self.result.faults.append(self._single(single))
            return self.result
        for group in (self._forms, self._blobs, self._sizes, self._preparations):
            if any(trial.explains and trial.agree == trial.of for trial in self.result.trials):
                break
            group()
        self._conclude(base)
        return self.result

    def judge(self, kind: str, text: str, scores: Scores) -> Trial:
        """Compare scores with the authors', line by line; if few agree, with their other lines."""
        far = np.abs(scores - self.theirs)
        agree = int((far.max(axis=1) <= self.tolerance).sum())
        trial = Trial(kind, text, agree, len(scores), float(far.mean()))
        order = match_rows(scores, self.all, self.lines, self.tolerance)
        if not trial.explains and 2 * order.moved >= len(scores):
            trial = Trial(kind, text, int((order.found >= 0).sum()), len(scores), trial.mean, reordered=True)
            self.result.order = self.result.order or order
        self.result.trials.append(trial)
        return trial

    def _columns(self) -> None:
        order = match_columns(self.ours, self.theirs, self.tolerance)
        if order is not None:
            moved = int((order != np.arange(len(order))).sum())
            self.judge("columns", f"with {moved} classes in another order", self._placed(order))
            evidence = say_columns(order, "our scores", "the predictions")
            text = f"{moved} columns of the predictions are other classes than the net's"
            fix = "the predictions, or the net, have the classes in another order"
            self.result.faults.append(Fault("columns", text, None, tuple(evidence), fix))

    def _placed(self, order: NDArray[np.intp]) -> Scores:
        placed = np.empty_like(self.ours)
        placed[:, order] = self.ours
        return placed

    def _single(self, found: Single) -> Fault:
        """Single values, or columns, are others; the net, the images and their preparation gave all the rest."""
        evidence = [
            f"line {self.lines[i] + 1}, column {c + 1}: {self.theirs[i, c]:.6f} in the predictions, "
            f"{self.ours[i, c]:.6f} from the net"
            for i, c in found.places
        ]
        if found.columns and (fault := self._hole(evidence)):
            return fault
        if found.columns:
            which = ", ".join(str(c + 1) for c in found.columns)
            text = f"column {which} alone differs: the weights of this class, or the column, were changed"
        else:
            text = f"{len(found.places):,} of {self.ours.size:,} values differ and all others agree: single values of"
            text += " the predictions were changed"
        return Fault("values", text, None, tuple(some(evidence)), "fetch the predictions and the weights again")

    def _forms(self) -> None:
        for text, form in FORMS:
            self.judge("form", text, form(self.ours))
        if not any(trial.explains for trial in self.result.trials):
            for text, scores in fitted(self.ours, self.theirs):
                self.judge("form", text, scores)

    def _blobs(self) -> None:
        for blob, scores in self.sampler.other_scores().items():
            self.judge("blob", f"in blob '{blob}' instead of '{self.sampler.output}'", scores)

    def _sizes(self) -> None:
        for size in SIZES:
            if (size, size) != self.sampler.size:
                scores = self.sampler.scores_at(size)
                if scores is not None:
                    high, wide = self.sampler.size
                    self.judge("size", f"for an input of {size}x{size} instead of {high}x{wide}", scores)

    def _preparations(self) -> None:
        for preparation in PREPARATIONS:
            self.judge(preparation.kind, preparation.text, self.sampler.scores(preparation))

    def _conclude(self, base: Trial) -> None:
        others = [trial for trial in self.result.trials[1:] if trial.kind != "columns"]
        best = max(others, key=lambda trial: (trial.agree, -trial.mean), default=None)
        if base.reordered or any(fault.kind == "columns" for fault in self.result.faults):
            return
        if best is not None and best.explains and best.agree > base.agree:
            self.result.faults.append(_explained(best))
        else:
            self._unexplained(base, best)

    def _unexplained(self, base: Trial, best: Trial | None) -> None:
        """Nothing explains it: how near the nearest comes, what a decoder would do, what the reference says."""
        evidence = []
        if best is not None and best.mean * CLOSE <= base.mean:
            evidence.append(f"nearest, but not equal: {best}")
        level = float(np.abs(self.sampler.scores(one_level_off) - self.ours).mean())
        evidence.append(
            f"a change of one grey level in every value moves the scores by {level:.1e} on average; they are "
            f"{base.mean:.1e} off"
        )
        near, text = self.sampler.reference_says()
        evidence.append(text)
        hole = None if self.agreeing else self._hole(evidence)
        small = base.mean <= DECODER * level and any(map(_is_jpeg, self.sampler.images))
        if not near:
            fault = Fault("port", "the net is not computed as Caffe's rules say", None, tuple(evidence), VERIFY)
        elif hole:
            fault = hole
        elif small:
            text = "the differences are no larger than between two JPEG decoders, or versions of one"
            fault = Fault("decoder", text, None, tuple(evidence), SMALL)
        elif self.agreeing:
            text = f"{self.agreeing}, so the net is right: these are other images, or have other predictions"
            fault = Fault("images", text, None, tuple(evidence), "fetch these images, and the predictions, again")
        else:
            text = "no hypothesis explains the differences: other weights, or other images, than the predictions'"
            fault = Fault("unexplained", text, None, tuple(evidence), VERIFY)
        self.result.faults.append(fault)

    def _hole(self, evidence: list[str]) -> Fault | None:
        """Weights with zeros in a row, which a trained net does not have; None when there are none."""
        gaps = list(holes(self.sampler.net))
        if not gaps:
            return None
        text = "weights are missing: zeros stand in a row where other values should"
        return Fault("damaged", text, self.sampler.caffemodel, (*some(gaps), *some(evidence)), "fetch the file again")


SMALL = (
    "compare the figures: they should not change. A weight that was changed a little looks the same: compare the "
    "caffemodel's size and hash with somebody else's copy"
)
VERIFY = "`python -m verify net` compares every blob of the net with the float64 reference"

_SENTENCES = {
    "blob": "the authors' scores stand",
    "form": "the authors' scores are the net's",
    "size": "the authors' scores are the net's",
}


def _explained(trial: Trial) -> Fault:
    begin = _SENTENCES.get(trial.kind, "the authors' scores are those of images")
    evidence = f"{trial.agree} of a sample of {trial.of} images then agree"
    return Fault(trial.kind, f"{begin} {trial.text}", None, (evidence,), _FIXES.get(trial.kind, _PREPARED))


_PREPARED = "the net, or the predictions, were made for other images than the authors' program prepares"
_FIXES = {
    "blob": "the prototxt is another version than the one that made the predictions",
    "form": "the predictions, or the prototxt's last layers, are another version",
    "size": "the prototxt's input is not the one that the predictions were made with",
}


def _is_jpeg(path: Path) -> bool:
    return read_head(path, size=2) == b"\xff\xd8"


def spread(count: int, lines: NDArray[np.intp]) -> NDArray[np.intp]:
    """At most `count` of the lines, spread evenly over all of them."""
    if len(lines) <= count:
        return lines
    return lines[np.unique(np.linspace(0, len(lines) - 1, count).round().astype(int))]
