"""Image list, labels and predictions held against one another: which of the three is the odd one out.

Three comparisons tell: the list's numbers of tags with the labels' positives, the labels with the predictions
(`association`), and, once a net has run, its scores with the predictions (`matching.Order`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .association import Association, associate
from .faults import Fault, some
from .files import Release
from .matching import Order, say_columns, shifted

MANY = 0.1  # of the lines: more is another order or file, not single lines


@dataclass(frozen=True)
class Consistency:
    """`off`: lines, from 0, whose number of tags is not that of their positives; None where a file is absent."""

    off: NDArray[np.intp] | None
    association: Association | None

    @property
    def many_off(self) -> bool:
        return self.off is not None and bool(self.off.size)


def consistency(release: Release) -> Consistency:
    """Compare what is there; nothing is computed by a net."""
    off = together = None
    positives = release.positives
    if release.tags is not None and positives is not None:
        off = np.flatnonzero(release.tags != positives)
    if release.labels is not None and release.scores is not None and len(release.rows):
        together = associate(release.scores[release.rows], release.labels[release.rows])
    return Consistency(off, together)


@dataclass(frozen=True)
class Proof:
    """What a net found of the predictions.

    `in_order`: they are in the order of the list; `moved`: they are in another one; `explained`: they are wrong in
    another way, so that it is no wonder that the labels do not go with them. All false when no net ran.
    """

    in_order: bool = False
    moved: bool = False
    explained: bool = False


def label_faults(release: Release, found: Consistency, net: Proof) -> list[Fault]:
    """What is wrong with the labels, with the list's numbers of tags, or with the predictions beside them."""
    together, off = found.association, found.off
    faults = []
    if not net.explained and release.scores is not None and len(release.scores) > 1 and release.scores.min() >= 0:
        faults.append(_probabilities(release))
    if together and together.columns and not net.explained:
        faults.append(_columns(release, together, net))
    if together and together.opposite and not net.explained:
        return [*faults, _opposite(release, found, together)]
    lost = together is not None and together.absent and not together.columns and not net.explained
    if lost and together and together.shift and not (net.moved and not found.many_off):
        faults.append(_shifted(release, found, together))
    elif off is not None and off.size and not net.moved:
        faults.append(_tags(release, off, lost, together, net))
    elif lost and not net.moved:
        faults.append(_unrelated(release, found))
    return faults


def order_fault(release: Release, found: Consistency, order: Order, right: NDArray[np.intp]) -> Fault:
    """The net's scores are those of other lines: the list, or the predictions, is in another order.

    `right` are the lines that agree as they stand: images that have the scores of these are copies.
    """
    elsewhere = (order.found >= 0) & (order.found != order.lines)
    moved = order.lines[elsewhere]
    names = release.names or []
    evidence = [f"{order.moved} of a sample of {len(order.lines)} images have the scores of another line"]
    evidence += order.evidence(names)
    if np.isin(order.found[elsewhere], right).all():
        text = f"{len(moved)} image files hold the images of other lines, which agree where they stand"
        return Fault("images", text, None, tuple(evidence), "fetch these images again")
    file = "image_list"
    if found.off is not None:
        share = np.isin(moved, found.off).mean()
        file = "image_list" if share > 1 / 3 else "scores"
        evidence.append(
            f"{found.off.size:,} of {len(names):,} lines of the list have other numbers of tags than the labels"
        )
    elif found.association is not None and not found.association.clear:
        file = "scores"
    if found.association is not None:
        evidence.append(_together(found.association))
    texts = {
        "image_list": "the image list is in another order than the predictions",
        "scores": "the predictions are in another order than the image list",
    }
    fix = "fetch the file again; the files must be of one release"
    return Fault("order", texts[file], release.paths.get(file), tuple(evidence), fix)


def _together(found: Association) -> str:
    verdict = "go" if found.clear else "do not go" if found.absent else "hardly go"
    return f"labels and predictions {verdict} together ({found.deviations:.1f} deviations above chance)"


def _probabilities(release: Release) -> Fault:
    assert release.scores is not None
    low, high = float(release.scores.min()), float(release.scores.max())
    text = "no score is below 0: these are probabilities, not logits"
    fix = "the evaluation takes logits, log(p / (1 - p)); it takes those above 0 for predicted labels"
    return Fault("form", text, release.paths["scores"], (f"they lie between {low:g} and {high:g}",), fix)


def _columns(release: Release, together: Association, net: Proof) -> Fault:
    order = np.arange(release.table.classes)
    order[[i for i, _ in together.columns]] = [j for _, j in together.columns]
    evidence = say_columns(order, "the labels", "the predictions")
    text = f"{len(together.columns)} columns of the labels go with other columns of the predictions"
    fix = "the classes must be in one order in both"
    if not net.in_order:
        fix += "; with --image-root the net tells which of both is in another order"
    return Fault("columns", text, release.paths["labels"], tuple(evidence), fix)


def _opposite(release: Release, found: Consistency, together: Association) -> Fault:
    evidence = (f"labels and predictions go against each other ({-together.deviations:.1f} deviations below chance)",)
    if found.many_off:
        text = "present and absent are exchanged in the labels"
        return Fault("form", text, release.paths["labels"], evidence, "fetch the file again")
    text = "the predictions have the opposite sign: labels that are present have low scores"
    return Fault("form", text, release.paths["scores"], evidence, "fetch the file again")


def _shifted(release: Release, found: Consistency, together: Association) -> Fault:
    evidence = [_together(together), "moved by that, they go together"]
    fix = "is a line missing, or one too many?"
    if found.off is not None and not found.off.size:
        evidence.append("the list and the labels agree in the number of tags of every image")
        text = f"the predictions stand {shifted(-together.shift)} than their labels"
        return Fault("order", text, release.paths["scores"], tuple(evidence), fix)
    text = f"the labels stand {shifted(together.shift)} than their predictions"
    return Fault("order", text, release.paths["labels"], tuple(evidence), fix)


def _tags(release: Release, off: NDArray[np.intp], lost: bool, together: Association | None, net: Proof) -> Fault:
    assert release.tags is not None and release.positives is not None and release.names is not None
    tags, positives = release.tags, release.positives
    evidence = some(
        [f"line {i + 1} ({release.names[i]}): {tags[i]} in the list, {positives[i]} in the labels" for i in off], 3
    )
    if together is not None:
        evidence.append(_together(together))
    count = f"{off.size:,} of {len(tags):,} lines"
    many = off.size > MANY * len(tags)
    if lost or (many and net.in_order and together is not None and together.absent):
        text = "the labels are in another order than the image list and the predictions"
        evidence.insert(0, f"the numbers of positives are not those of the list in {count}")
        return Fault("order", text, release.paths["labels"], tuple(evidence), "fetch the file again")
    same = sorted(tags.tolist()) == sorted(positives.tolist())
    if not many or together is None or net.in_order or not same:
        text = f"the numbers of tags are not those of the labels in {count}"
        fix = "one of both files was changed"
        if many and not net.in_order:
            fix += ", or is in another order; with --image-root the net tells"
        return Fault("tags", text, release.paths["image_list"], tuple(evidence), fix)
    text = "the image list is in another order than the labels and the predictions"
    evidence.insert(0, f"its numbers of tags are not those of the labels in {count}")
    evidence.append("put in order, both have the same numbers: the same images in another order")
    return Fault("order", text, release.paths["image_list"], tuple(evidence), "fetch the file again")


def _unrelated(release: Release, found: Consistency) -> Fault:
    assert found.association is not None
    evidence = [_together(found.association)]
    if found.off is not None:
        evidence.append("the list and the labels agree in the number of tags of every image")
    text = "the predictions are in another order than the labels, or are another net's"
    return Fault("order", text, release.paths["scores"], tuple(evidence), "fetch the file again")
