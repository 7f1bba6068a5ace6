"""DetectionEvaluate: which detections hit ground truth, for average precision over a whole test."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..base import Array, Layer, Misfit, register, show
from ..values import check_finite
from .boxes import areas, overlap_tensor, overlaps
from .pixels import in_pixels, in_pixels_tensor, pixel_overlap_tensor, pixel_overlaps, read_sizes, resize_of
from .prior_box import extent


@register
class DetectionEvaluate(Layer):
    """1 x 1 x R x 5 (the forks' detection_evaluate_layer): how much ground truth each label has, then each detection.

    First a row -1, label, number, -1, -1 for every label but the background's, then a row item, label, score, whether
    it hits ground truth, whether it does not, by item and label; where an item has ground truth of the label, by
    falling score. A hit overlaps some by `overlap_threshold`, which nothing better has hit; what hits difficult ground
    truth is neither, if that does not count. With `name_size_file` boxes are compared in pixels of the images that it
    lists, which go by in its order from one pass to the next; it is read when the net runs.
    """

    type = "DetectionEvaluate"
    pack = "ssd"
    kind = "metric"
    selects = True
    selected_axis = 2
    param = ("detection_evaluate_param",)
    bottom_count = (2, 2)
    no_gradient = (0, 1)
    carries_state = True

    num_classes: int | None = None
    background_label_id: int = 0
    overlap_threshold: float = 0.5
    evaluate_difficult_gt: bool = True
    name_size_file: str = ""
    resize_param: Any = None

    def top_shapes(self, found, truth):
        if not self.num_classes:
            raise Misfit(
                f"num_classes {self.num_classes}", "the number of labels, the background's included", "num_classes"
            )
        if self.background_label_id >= self.num_classes:
            found_text = f"background_label_id {self.background_label_id} of {self.num_classes} labels"
            raise Misfit(found_text, f"below {self.num_classes}", "background_label_id")
        if not self.overlap_threshold > 0:
            raise Misfit(f"overlap_threshold {self.overlap_threshold:g}", "above 0", "overlap_threshold")
        resize_of(self.resize_param if self.name_size_file else None)
        for what, shape, width in (("detections", found, 7), ("ground truth", truth, 8)):
            if (extent(shape, 0), extent(shape, 1), extent(shape, 3)) != (1, 1, width):
                raise Misfit(f"{what} of {show(shape)}", f"1 x 1 x rows x {width}", "bottom")
        return ((1, 1, self.num_classes - 1 + extent(found, 2), 5),)

    @staticmethod
    def _check(found, truth) -> None:
        """Raise Misfit for items and labels that are no numbers."""
        for bottom, (rows, what) in enumerate(((found.reshape(-1, 7), "detections"), (truth.reshape(-1, 8), "truth"))):
            check_finite(rows[:, :2], f"item or label of the {what}", bottom)

    def reference(self, blobs, found, truth):
        self._check(found, truth)
        sizes = read_sizes(self.name_size_file) if self.name_size_file else []
        rows = self._rows(found.reshape(-1, 7), self._truths(truth.reshape(-1, 8)), sizes)
        size = (self.num_classes or 0) - 1 + int((found.reshape(-1, 7)[:, 1] != -1).sum())
        top = np.zeros((1, 1, size, 5))  # a detection of no item leaves a row of zeros at the end
        top[0, 0, : len(rows)] = rows
        return (top,)

    def _truths(self, rows: Array) -> dict[tuple[int, int], list[Array]]:
        """Item and label -> its ground truth."""
        kept: dict[tuple[int, int], list[Array]] = {}
        for row in rows:
            if int(row[0]) == -1:
                break
            self._require_label(int(row[1]), "ground truth")
            kept.setdefault((int(row[0]), int(row[1])), []).append(row)
        return kept

    def _require_label(self, label: int, what: str) -> None:
        if label == self.background_label_id:
            raise Misfit(f"{what} of the background's label {label}", "another label", "bottom")

    def _rows(self, found: Array, truths: dict[tuple[int, int], list[Array]], sizes: list[Any]) -> list[list[float]]:
        """The rows that are written."""
        counts = dict.fromkeys(range(self.num_classes or 0), 0)
        for (_, label), rows in truths.items():
            counted = [row for row in rows if self.evaluate_difficult_gt or row[7] == 0]
            counts[label] = counts.get(label, 0) + len(counted)
        tops: list[list[float]] = [
            [-1, c, counts[c], -1, -1] for c in range(self.num_classes or 0) if c != self.background_label_id
        ]
        grouped: dict[tuple[int, int], list[Array]] = {}
        for row in found:
            if int(row[0]) != -1:
                self._require_label(int(row[1]), "a detection")
                grouped.setdefault((int(row[0]), int(row[1])), []).append(row)
        places = {item: place for place, item in enumerate(sorted({item for item, _ in grouped}))}
        for (item, label), rows in sorted(grouped.items()):
            if label != -1:
                size = sizes[places[item] % len(sizes)] if sizes else None
                hits = self._hits(rows, truths.get((item, label), []), size)
                tops += [[item, label, row[2], *hit] for row, hit in hits]
        return tops

    def _hits(self, rows: list[Array], truths: list[Array], size: Any) -> list[tuple[Array, tuple[int, int]]]:
        """Detections of one label in one item, and whether they hit and miss."""
        if not truths:
            return [(row, (0, 1)) for row in rows]
        boxes, taken, judged = np.array([t[3:7] for t in truths], np.float32), set(), []
        for row in sorted(rows, key=lambda row: -np.float32(row[2])):
            shared = overlaps(row[3:7].astype(np.float32), boxes)
            if size is not None:
                resize = resize_of(self.resize_param)
                shared = pixel_overlaps(*in_pixels(row[None, 3:7], size, resize), *in_pixels(boxes, size, resize))[0]
            best = int(shared.argmax())
            hit = (0, 1)
            if shared[best] >= np.float32(self.overlap_threshold):
                if truths[best][7] != 0 and not self.evaluate_difficult_gt:
                    hit = (0, 0)
                elif best not in taken:
                    hit = (1, 0)
                    taken.add(best)
            judged.append((row, hit))
        return judged

    def forward(self, module, found, truth):
        self._check(found, truth)
        rows, width = found.detach().reshape(-1, 7), int(self.num_classes or 0)
        rows = rows[rows[:, 1] != -1]
        truth = self._kept(truth.detach().reshape(-1, 8))
        for labels, what in ((truth[:, 1], "ground truth"), (rows[rows[:, 0].trunc() != -1, 1], "a detection")):
            for label in labels.trunc().unique():
                self._require_label(int(label), what)
        counted = truth if self.evaluate_difficult_gt else truth[truth[:, 7] == 0]
        labels = torch.tensor([c for c in range(width) if c != self.background_label_id], device=rows.device)
        counts = (counted[:, 1].trunc() == labels[:, None]).sum(1)
        fill = torch.full_like(counts, -1)
        head = torch.stack([fill, labels, counts, fill, fill], 1).to(rows)
        judged = self._judged(found.detach().reshape(-1, 7), truth, module)
        rest = rows.new_zeros(len(rows) - len(judged), 5)
        return (torch.cat([head, judged, rest]).reshape(1, 1, -1, 5),)

    def _kept(self, truth):
        """Ground truth up to the first row of no item."""
        ends = (truth[:, 0].trunc() == -1).nonzero()[:, 0]
        return truth[: int(ends[0])] if len(ends) else truth

    def _judged(self, rows, truth, module):
        """The rows of all detections; the images that they are of are counted on from pass to pass."""
        rows = rows[rows[:, 0].trunc() != -1]
        sizes = read_sizes(self.name_size_file) if self.name_size_file else []
        seen = module.state.get("seen", 0) if sizes else 0
        parts = [rows.new_zeros(0, 5)]
        for place, item in enumerate(rows[:, 0].trunc().unique()):  # in ascending order
            size = sizes[(seen + place) % len(sizes)] if sizes else None
            of_item = rows[rows[:, 0].trunc() == item]
            for label in of_item[:, 1].trunc().unique():
                if label != -1:
                    own = of_item[of_item[:, 1].trunc() == label]
                    real = truth[(truth[:, 0].trunc() == item) & (truth[:, 1].trunc() == label)]
                    parts.append(self._hits_of(own, real, size))
        if sizes:
            module.state["seen"] = seen + len(rows[:, 0].trunc().unique())
        return torch.cat(parts)

    def _hits_of(self, own, real, size):
        """The rows of one item's detections of one label."""
        hits = own.new_tensor([0.0, 1.0]).expand(len(own), 2)
        if len(real):
            own = own[own[:, 2].float().sort(descending=True, stable=True).indices]
            shared = self._shared(own[:, 3:7].float(), real[:, 3:7].float(), size)
            best = shared.argmax(1)
            near = shared.max(1).values >= self.overlap_threshold
            passed = near & (real[best, 7] != 0) & (not self.evaluate_difficult_gt)
            for place in range(len(own)):  # what a better one has hit is no hit
                if bool((near & ~passed)[:place][best[:place] == best[place]].any()):
                    near[place] = False
            hits = torch.stack([near & ~passed, ~near & ~passed], 1).to(own)
        return torch.cat([own[:, :2].trunc(), own[:, 2:3], hits], 1)

    def _shared(self, own, real, size):
        """Overlaps of detections with ground truth."""
        if size is None:
            return overlap_tensor(own.T[:, :, None], real.T[:, None], areas(own)[:, None], areas(real))
        resize = resize_of(self.resize_param)
        return pixel_overlap_tensor(*in_pixels_tensor(own, size, resize), *in_pixels_tensor(real, size, resize))

    def onnx(self, graph, found, truth):
        what = "detections that are judged one after the other"
        raise Misfit(
            what, "a net without it: in ONNX they are the outputs", "type", "leave the layer out, or use --raw-heads"
        )
