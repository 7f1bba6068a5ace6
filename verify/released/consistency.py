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


def label_faults(release: Release, found: Consistency, moved: bool, explained: bool) -> list[Fault]:
    """What is wrong with the labels, or with the list's numbers of tags.

    `moved` says whether a net found the predictions in another order than the images, `explained` whether it
    found them to be wrong in another way: then it is no wonder that the labels do not go with them.
    """
    together, off = found.association, found.off
    faults = []
    if together and together.columns and not explained:
        faults.append(_columns(release, together))
    lost = together is not None and together.absent and not together.columns and not explained
    if lost and together and together.shift:
        faults.append(_shifted(release, together))
    elif off is not None and off.size and not moved:
        faults.append(_tags(release, off, lost, together))
    elif lost and not moved:
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


def _columns(release: Release, together: Association) -> Fault:
    order = np.arange(release.table.classes)
    order[[i for i, _ in together.columns]] = [j for _, j in together.columns]
    evidence = say_columns(order, "the labels", "the predictions")
    text = f"{len(together.columns)} columns of the labels go with other columns of the predictions"
    return Fault("columns", text, release.paths["labels"], tuple(evidence), "the classes must be in one order in both")


def _shifted(release: Release, together: Association) -> Fault:
    text = f"the labels stand {shifted(together.shift)} than their predictions"
    evidence = (_together(together), "moved by that, they go together")
    return Fault("order", text, release.paths["labels"], evidence, "is a line missing, or one too many?")


def _tags(release: Release, off: NDArray[np.intp], lost: bool, together: Association | None) -> Fault:
    assert release.tags is not None and release.positives is not None and release.names is not None
    tags, positives = release.tags, release.positives
    evidence = some(
        [f"line {i + 1} ({release.names[i]}): {tags[i]} in the list, {positives[i]} in the labels" for i in off], 3
    )
    if together is not None:
        evidence.append(_together(together))
    count = f"{off.size:,} of {len(tags):,} lines"
    if lost:
        text = "the labels are in another order than the image list and the predictions"
        evidence.insert(0, f"the numbers of positives are not those of the list in {count}")
        return Fault("order", text, release.paths["labels"], tuple(evidence), "fetch the file again")
    if off.size <= MANY * len(tags) or together is None:
        text = f"the numbers of tags are not those of the labels in {count}"
        return Fault("tags", text, release.paths["image_list"], tuple(evidence), "one of both files was changed")
    text = "the image list is in another order than the labels and the predictions"
    evidence.insert(0, f"its numbers of tags are not those of the labels in {count}")
    if sorted(tags.tolist()) == sorted(positives.tolist()):
        evidence.append("put in order, both have the same numbers: the same images in another order")
    return Fault("order", text, release.paths["image_list"], tuple(evidence), "fetch the file again")


def _unrelated(release: Release, found: Consistency) -> Fault:
    assert found.association is not None
    evidence = [_together(found.association)]
    if found.off is not None:
        evidence.append("the list and the labels agree in the number of tags of every image")
    text = "the predictions are in another order than the labels, or are another net's"
    return Fault("order", text, release.paths["scores"], tuple(evidence), "fetch the file again")
