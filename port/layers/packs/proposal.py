"""Proposal and rpn.proposal_layer: the regions that a region proposal network proposes."""

from __future__ import annotations

import ast
import re
from math import inf
from typing import Any, ClassVar

import numpy as np
import torch

from ..base import Layer, Misfit, float32, register, show
from ..host import register_python
from .proposals import BASE, Proposing, whole_anchors

RATIOS = (0.5, 1.0, 2.0)
SCALES = (8.0, 16.0, 32.0)


def check_maps(shapes: tuple[tuple[int, ...], ...], anchors: int, numbers: int) -> None:
    """Raise Misfit unless there are scores N x 2A x H x W, deltas N x 4A x H x W and numbers of the image."""
    scores, deltas, info = shapes
    wanted = (scores[0], 4 * anchors, *scores[2:]) if len(scores) == 4 else ()
    if len(scores) != 4 or scores[1] != 2 * anchors or deltas != wanted or np.prod(info) < numbers:
        found = ", ".join(map(show, shapes))
        expected = f"scores N x {2 * anchors} x H x W, deltas N x {4 * anchors} x H x W, {numbers} numbers of the image"
        raise Misfit(found, expected, "bottom")


def rows(item: Any, boxes: Any, scores: Any) -> tuple[Any, Any]:
    """Regions [item, x1, y1, x2, y2] and scores, count x 1 (NumPy and torch)."""
    if isinstance(boxes, torch.Tensor):
        return torch.cat([torch.full_like(boxes[:, :1], item), boxes], 1), scores[:, None]
    return np.concatenate([np.full((len(boxes), 1), float(item)), boxes], 1), scores[:, None]


def onnx_rows(graph: Any, rule: Proposing, scores: str, deltas: str, info: str, scale: tuple[int, ...]) -> tuple:
    """Regions and scores of the only item; `scale`: which numbers of the image scale the least side, x and y."""
    _, _, high, wide = graph.shape(scores)
    count = len(rule.anchors)
    front = graph.slice(scores, [count], [2 * count], [1])
    info = graph.reshape(info, (-1,))
    sides = graph.op("Gather", info, graph.constant(scale, np.int64), axis=0)
    boxes, best = rule.onnx(graph, front, deltas, info, sides, (high, wide))
    column = graph.reshape(best, (-1, 1))
    zero = graph.constant(np.zeros((1, 1)))
    ones = graph.op("Concat", graph.extents(boxes, 0), graph.constant([1], np.int64), axis=0)
    return graph.op("Concat", graph.op("Expand", zero, ones), boxes, axis=1), column


@register_python("rpn.proposal_layer.ProposalLayer")
class ProposalLayer(torch.nn.Module):
    """py-faster-rcnn's Python layer, with its configuration's numbers; bottoms scores, deltas, im_info of one item.

    `param_str` gives feat_stride and, if others are wanted, scales. The class's own numbers may be set anew.
    """

    selects = True
    tops = 2  # regions, and scores where the net asks for them
    limits: ClassVar[dict[str, tuple[int, int]]] = {"TRAIN": (12000, 2000), "TEST": (6000, 300)}  # before, after NMS
    threshold: ClassVar[float] = 0.7
    least: ClassVar[float] = 16

    def __init__(self, param_str: str, phase: str):
        super().__init__()
        given = read_settings(param_str, ("feat_stride", "scales"))
        if "feat_stride" not in given:
            raise Misfit(f"param_str '{param_str}'", "a feat_stride", "param_str")
        before, after = self.limits[phase]
        anchors = whole_anchors(BASE, RATIOS, given.get("scales", SCALES))
        self.rule = Proposing(anchors, given["feat_stride"], before, after, self.threshold, self.least)

    def top_shapes(self, *shapes: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        if len(shapes) != 3:
            raise Misfit(f"{len(shapes)} bottoms", "3: scores, deltas and im_info", "bottom")
        check_maps(shapes, len(self.rule.anchors), 3)
        if shapes[0][0] != 1:
            raise Misfit(f"{shapes[0][0]} items", "1: py-faster-rcnn proposes for one image", "bottom")
        return ((1, 5), (1, 1))[: self.tops]

    def reference(self, scores: Any, deltas: Any, info: Any) -> tuple:
        info = info.reshape(-1)
        front = scores[0, len(self.rule.anchors) :]
        return rows(0, *self.rule.reference(front, deltas[0], info, info[2]))[: self.tops]

    def forward(self, scores: torch.Tensor, deltas: torch.Tensor, info: torch.Tensor) -> tuple:
        scores, deltas, info = (b.detach() for b in (scores, deltas, info.reshape(-1)))
        front = scores[0, len(self.rule.anchors) :]
        return rows(0, *self.rule.tensors(front, deltas[0], info, info[2]))[: self.tops]

    def onnx(self, graph: Any, scores: str, deltas: str, info: str) -> tuple:
        return onnx_rows(graph, self.rule, scores, deltas, info, (2, 2))[: self.tops]


def read_settings(text: str, known: tuple[str, ...]) -> dict[str, Any]:
    """The settings of a param_str, a mapping in YAML or Python; raises Misfit for one that is not known."""
    found = {}
    pairs = re.findall(r"['\"]?(\w+)['\"]?\s*:\s*(\[[^\]]*\]|\([^)]*\)|[^,\n}]+)", text)
    for name, value in pairs:
        if name not in known:
            raise Misfit(f"{name} in param_str '{text}'", ", ".join(known), "param_str")
        try:
            found[name] = ast.literal_eval(value.strip())
        except (SyntaxError, ValueError):
            raise Misfit(f"{name}: {value.strip()}", "a number or a list of them", "param_str") from None
    return found


class _Proposals(Layer):
    """What both forks' Proposal share; the nominal top is one region."""

    type = "Proposal"
    pack = "faster_rcnn"
    family = "pooling"
    param = ("proposal_param",)
    bottom_count = (3, 3)
    top_count = (1, 2)
    no_gradient = (0, 1, 2)
    selects = True
    numbers: ClassVar[int] = 3
    sides: ClassVar[tuple[int, int]] = (2, 2)  # which numbers of the image scale the least side, x and y

    @property
    def rule(self) -> Proposing:
        raise NotImplementedError

    def top_shapes(self, scores, deltas, info):
        check_maps((scores, deltas, info), len(self.rule.anchors), self.numbers)
        self.check(scores)
        if not self.rule.threshold >= 0:
            raise Misfit(f"a threshold of {self.rule.threshold:g} for overlaps", "0 or more", "nms_thresh")
        return ((1, 5), self.score_shape)[: self.at.tops]

    score_shape: ClassVar[tuple[int, ...]] = (1, 1)

    def check(self, scores):
        """Raise Misfit for items that the fork does not look at."""

    def reference(self, blobs, scores, deltas, info):
        rule, info = self.rule, info.reshape(-1)
        count, scale = len(rule.anchors), info[list(self.sides)]
        found = [
            rows(n, *rule.reference(s[count:], d, info, scale))
            for n, (s, d) in enumerate(zip(scores, deltas, strict=True))
        ]
        regions, best = map(np.concatenate, zip(*found, strict=True))
        return (regions, best.reshape(-1, *self.score_shape[1:]))[: self.at.tops]

    def forward(self, module, scores, deltas, info):
        rule, info = self.rule, info.detach().reshape(-1)
        count, scale = len(rule.anchors), info[list(self.sides)]
        pairs = zip(scores.detach(), deltas.detach(), strict=True)
        found = [rows(n, *rule.tensors(s[count:], d, info, scale)) for n, (s, d) in enumerate(pairs)]
        regions, best = map(torch.cat, zip(*found, strict=True))
        return (regions, best.reshape(-1, *self.score_shape[1:]))[: self.at.tops]

    def onnx(self, graph, scores, deltas, info):
        if graph.shape(scores)[0] != 1:
            raise Misfit(f"{graph.shape(scores)[0]} items", "1 in ONNX", "bottom")
        regions, best = onnx_rows(graph, self.rule, scores, deltas, info, self.sides)
        return (regions, graph.reshape(best, (-1, *self.score_shape[1:])))[: self.at.tops]


@register
class Proposal(_Proposals):
    """Regions [0, x1, y1, x2, y2] of one item, and their scores (synopsys-caffe's proposal_layer).

    As py-faster-rcnn's layer, but for what is this fork's own: anchor_scale and anchor_ratio are numbers of scales and
    ratios, 3 or else 1; the last box is never too small; the image's extents are integers; NMS goes on behind the
    pre_nms_topn best (in falling order here; the fork does not sort them).
    """

    fixed_batch = True

    feat_stride: int = 16
    anchor_base_size: int = 16
    anchor_scale: int = 3
    anchor_ratio: int = 3
    max_rois: int = 300
    pre_nms_topn: int = 6000
    rpn_min_size: float = 16.0
    rpn_nms_thresh: float = float32(0.7)

    @property
    def rule(self):
        ratios, scales = RATIOS if self.anchor_ratio == 3 else (1.0,), SCALES if self.anchor_scale == 3 else (32.0,)
        anchors = whole_anchors(self.anchor_base_size, ratios, scales)
        return Proposing(
            anchors,
            self.feat_stride,
            before=0,
            after=self.max_rois,
            threshold=self.rpn_nms_thresh,
            least=self.rpn_min_size,
            anchors_first=True,
            small="but the last",
            whole_image=True,
        )

    def check(self, scores):
        if scores[0] != 1:
            raise Misfit(f"{scores[0]} items", "1: the fork looks at one", "bottom")
        if self.max_rois < 1:
            raise Misfit(f"max_rois {self.max_rois}", "1 or more", "max_rois")


@register
class PvanetProposal(_Proposals):
    """Regions [item, x1, y1, x2, y2] of all items, and their scores (PVANet's and happynear's proposal_layer).

    im_info is height, width, and the scales of both. Anchors of `ratio` and `scale` are rounded once; boxes too small
    are kept with a score of 0. Equal scores stand in the order of the map, which the fork leaves open.
    """

    fixed_batch = True
    numbers = 4
    sides = (3, 2)
    score_shape = (1,)

    feat_stride: int = 16
    base_size: int = 16
    min_size: int = 16
    ratio: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    pre_nms_topn: int = 6000
    post_nms_topn: int = 300
    nms_thresh: float = float32(0.7)

    @classmethod
    def claims(cls, message, context):
        """By the fields that synopsys's has not."""
        names = {field.name for field, _ in message.proposal_param.ListFields()}
        return bool(names & {"base_size", "min_size", "ratio", "scale", "post_nms_topn", "nms_thresh"})

    @property
    def rule(self):
        if not all(0 < ratio < inf for ratio in self.ratio) or self.base_size < 1:
            ratios = ", ".join(f"{ratio:g}" for ratio in self.ratio)
            raise Misfit(f"ratio {ratios}, base_size {self.base_size}", "finite numbers above 0", "ratio")
        found = []
        for ratio in self.ratio:
            wide = np.sqrt(self.base_size**2 / ratio)
            for scale in self.scale:
                sides = np.array([wide, wide * ratio]) * scale / self.base_size - 1
                found.append(np.trunc(sides + 0.5) / 2)
        half = np.reshape(found, (-1, 2))
        anchors = (self.base_size - 1) / 2 + np.concatenate([-half, half], 1)
        return Proposing(
            anchors,
            self.feat_stride,
            before=self.pre_nms_topn,
            after=self.post_nms_topn,
            threshold=self.nms_thresh,
            least=self.min_size,
            later_first=False,
            small="zeroed",
        )

    def check(self, scores):
        if not self.ratio or not self.scale or self.pre_nms_topn < 1 or self.post_nms_topn < 1:
            boxes = f"{self.pre_nms_topn} and {self.post_nms_topn} boxes"
            raise Misfit(
                f"{len(self.ratio)} ratios, {len(self.scale)} scales, {boxes}", "1 or more of each", "proposal_param"
            )
