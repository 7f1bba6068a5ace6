"""MultiBoxLoss: a detector's loss over the prior boxes that are given a ground truth, and the hardest of the others."""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ..base import FLT_MIN, Misfit, at_least, float32, register, show
from ..classification import _ClassLoss
from ..losses import NormalizedLoss
from ..values import check_finite
from .boxes import decoded_tensor, prior_count, require_channels, require_extents, require_hard
from .multibox_mining import matched, mined
from .multibox_onnx import write_loss
from .multibox_reference import loss_of
from .prior_box import extent

NONE, MAX_NEGATIVE, HARD_EXAMPLE = "NONE", "MAX_NEGATIVE", "HARD_EXAMPLE"


@register
class MultiBoxLoss(NormalizedLoss):
    """Boxes and scores against ground truth 1 x 1 x G x 8 (the forks' multibox_loss_layer).

    A row is item (-1: none), label (of two labels all from 1 on are 1), instance, box, difficult. Each ground truth
    gets the prior box that overlaps it most, then (PER_PREDICTION) each prior box the ground truth that it overlaps by
    the threshold or more. Boxes are compared to encoded ground truth, scores to labels: of all prior boxes, or of
    those matched and the hardest others. A bottom that `propagate_down` rules out adds nothing to the top. LOGISTIC
    scores without mining have their ones where the forks write them: in items behind the first at another place. A
    fifth and a sixth bottom are RefineDet's first scores and boxes. The gradient is the formula's, also with
    `encode_variance_in_target`, where the forks leave out to divide it.
    """

    type = "MultiBoxLoss"
    pack = "ssd"
    param = ("multibox_loss_param", "loss_param")
    bottom_count = (4, 6)
    no_gradient = (2, 3, 4, 5)

    loc_loss_type: str = "SMOOTH_L1"
    conf_loss_type: str = "SOFTMAX"
    loc_weight: float = 1.0
    num_classes: int | None = None
    share_location: bool = True
    match_type: str = "PER_PREDICTION"
    overlap_threshold: float = 0.5
    use_prior_for_matching: bool = True
    background_label_id: int = 0
    use_difficult_gt: bool = True
    do_neg_mining: bool | None = None
    neg_pos_ratio: float = 3.0
    neg_overlap: float = 0.5
    code_type: str = "CORNER"
    ignore_cross_boundary_bbox: bool = False
    encode_variance_in_target: bool = False
    map_object_to_agnostic: bool = False
    bp_inside: bool = False
    mining_type: str = MAX_NEGATIVE
    nms_param: Any = None
    sample_size: int = 64
    use_prior_for_nms: bool = False
    ignore_difficult_gt: bool = False
    objectness_score: float = float32(0.01)
    propagate_down: tuple[bool, ...] = ()

    @classmethod
    def read(cls, message):
        """The set fields, and which bottoms the layer takes a loss of."""
        return super().read(message) | {"propagate_down": tuple(message.propagate_down)}

    # -- what the fields say ------------------------------------------------------------------------------
    @property
    def classes(self) -> int:
        """The number of labels."""
        return self.num_classes or 0

    @property
    def mines(self) -> bool:
        """Whether only some of the prior boxes that have no ground truth count."""
        return self.mining_type != NONE

    @property
    def keys(self) -> list[int]:
        """The labels whose boxes are predicted; 0 alone where all share them."""
        return [0] if self.share_location else [k for k in range(self.classes) if k != self.background_label_id]

    @property
    def counted(self) -> tuple[bool, bool]:
        """Whether the loss of boxes and that of scores is part of the top."""
        flags = self.propagate_down or (True, True)
        return flags[0], flags[1]

    @property
    def suppression(self) -> tuple[float, int] | None:
        """The overlap and the number of boxes in choosing hard ones; None: they are not compared to each other."""
        if self.nms_param is None or not self.nms_param.nms_threshold > 0:
            return None
        return self.nms_param.nms_threshold, self.nms_param.top_k

    def _require(self) -> None:
        """Raise Misfit for what the forks refuse before they look at any blob."""
        if not self.num_classes:
            raise Misfit(
                f"num_classes {self.num_classes}", "the number of labels, the background's included", "num_classes"
            )
        if self.do_neg_mining not in (None, self.mines):
            raise Misfit(
                f"do_neg_mining {self.do_neg_mining} with mining_type {self.mining_type}", "the same", "mining_type"
            )
        if self.mines and not self.share_location:
            raise Misfit(
                f"mining_type {self.mining_type} without share_location", "share_location, or NONE", "mining_type"
            )
        if not 0 <= self.background_label_id < self.classes and (self.mines or self.conf_loss_type == "SOFTMAX"):
            found = f"background_label_id {self.background_label_id} of {self.classes} labels"
            raise Misfit(found, f"below {self.classes}", "background_label_id")
        if self.map_object_to_agnostic and self.classes != 2:
            raise Misfit(f"map_object_to_agnostic with {self.classes} labels", "2", "num_classes")
        if not isfinite(self.neg_pos_ratio):
            raise Misfit(f"neg_pos_ratio {self.neg_pos_ratio:g}", "a finite number", "neg_pos_ratio")
        if self.mining_type == HARD_EXAMPLE and self.sample_size < 1:
            raise Misfit(f"sample_size {self.sample_size}", "1 or more", "sample_size")
        if len(self.propagate_down) not in (0, self.at.bottoms):
            raise Misfit(f"{len(self.propagate_down)} flags", f"none, or {self.at.bottoms}", "propagate_down")
        if self.mode not in ("FULL", "VALID", "BATCH_SIZE", "NONE"):
            raise Misfit(f"normalization {self.mode}", "FULL, VALID, BATCH_SIZE or NONE", "normalization")

    def top_shapes(self, loc, conf, prior, label, *arm):
        self._require()
        require_hard(self.nms_param)
        for each in (loc, conf, prior, label):
            at_least(1, each)
        if loc[0] != conf[0]:
            raise Misfit(f"{show(loc)} and {show(conf)}", "as many items", "bottom")
        count, width = prior_count(prior), 1 if self.share_location else self.classes
        require_channels("predictions of boxes", loc, count * width * 4)
        require_channels("scores", conf, count * self.classes)
        if extent(label, 3) != 8 or not label[0]:
            raise Misfit(f"ground truth of {show(label)}", "1 x 1 x G x 8", "bottom")
        if arm and self.suppression is not None and self.mines:
            raise Misfit("nms_param beside a fifth bottom", "one of the two: the forks mix up their order", "nms_param")
        for what, shape, each in zip(("first scores", "first predictions of boxes"), arm, (2, 4), strict=False):
            require_channels(what, shape, count * each)
        if len(arm) == 2 and not self.share_location:
            raise Misfit("a sixth bottom without share_location", "share_location", "share_location")
        return ((),) * self.at.tops

    # -- rules --------------------------------------------------------------------------------------------
    def reference(self, blobs, loc, conf, prior, label, *arm):
        check_finite(label, "number of the ground truth", 3)
        return (np.asarray(loss_of(self, loc, conf, prior, label, *arm)),)

    def forward(self, module, loc, conf, prior, label, *arm):
        check_finite(label, "number of the ground truth", 3)
        items, count = len(loc), prior_count(tuple(prior.shape))
        preds = loc.reshape(items, count, 1 if self.share_location else self.classes, 4)
        logits = conf.reshape(items, count, self.classes)
        anchors, spread = prior[0].reshape(2, count, 4).to(loc)
        arm_boxes = arm[1].reshape(items, count, 4) if len(arm) == 2 else None
        with torch.no_grad():
            truths = self.truths(label)
            found = matched(self, preds.float(), anchors.float(), spread.float(), truths, arm_boxes)
            if arm_boxes is not None:
                anchors = decoded_tensor(
                    self.code_type, anchors, None if self.encode_variance_in_target else spread, arm_boxes
                )
            anchors = anchors.expand(items, count, 4)
            near = preds, anchors, spread, truths.to(loc)
            sure = None if not arm else arm[0].reshape(items, count, 2)[..., 1] >= self.objectness_score
            found, others = mined(self, found, near, logits, sure) if self.mines else (found, None)
        total, divisor = loc.new_zeros(()), self.divisor(items * count, max(len(found.item), 1), items)
        if self.counted[0]:
            total = total + self.loc_weight * self.of_boxes(self.apart(found, *near)).sum()
        if self.counted[1]:
            total = total + self._of_scores(found, others, logits, truths)
        return (total / divisor,)

    def truths(self, label):
        """The rows of ground truth that count: item, label, box and whether it is difficult, G' x 7."""
        rows = label[0].reshape(-1, 8).detach()
        whole = rows[:, :2].trunc()
        if self.classes == 2:
            whole[:, 1] = whole[:, 1].clamp(max=1)
        difficult = (rows[:, 7:] != 0).to(rows)
        kept = (whole[:, 0] != -1) & (difficult[:, 0] == 0 if not self.use_difficult_gt else True)
        return torch.cat([whole, rows[:, 3:7], difficult], 1)[kept]

    def require_label(self, labels) -> None:
        """Raise Misfit where a ground truth that was given to a prior box has a label that no score is of."""
        wrong = (labels < 0) | (labels >= self.classes)
        if self.mines:
            wrong = wrong | (labels == self.background_label_id)
        if bool(wrong.any()):
            label = int(labels[wrong][0])
            wanted = f"0 to {self.classes - 1}" + (", not the background's" if self.mines else "")
            raise Misfit(f"ground truth of label {label}", wanted, "bottom")

    def apart(self, found, preds, anchors, spread, truths):
        """What the matched predictions lack to their encoded ground truth, M x 4."""
        anchor, spread = anchors[found.item, found.place], spread[found.place]
        pred, truth = preds[found.item, found.place, found.key], truths[found.truth, 2:6]
        require_extents(self.code_type, anchor)
        away = pred - self._encoded(anchor, None if self.encode_variance_in_target else spread, truth)
        if self.bp_inside:
            box = anchor
            if not self.use_prior_for_matching:
                given = None if self.encode_variance_in_target else spread
                box = decoded_tensor(self.code_type, anchor, given, pred.detach())
            away = torch.where((box < 0) | (box > 1), 0, away)
        return away / spread if self.encode_variance_in_target else away

    def _encoded(self, anchor, spread, box):
        size = anchor[:, 2:] - anchor[:, :2]
        if self.code_type == "CENTER_SIZE":
            move = (box[:, :2] + box[:, 2:]) / 2 - (anchor[:, :2] + anchor[:, 2:]) / 2
            code = torch.cat([move / size, ((box[:, 2:] - box[:, :2]) / size).log()], 1)
        else:
            code = box - anchor
            code = code / torch.cat([size, size], 1) if self.code_type == "CORNER_SIZE" else code
        return code if spread is None else code / spread

    def of_boxes(self, away):
        """The loss of each matched prediction."""
        square = 0.5 * away * away
        if self.loc_loss_type == "SMOOTH_L1":
            square = torch.where(away.abs() < 1, square, away.abs() - 0.5)
        return square.sum(-1)

    def _of_scores(self, found, others, logits, truths):
        """The loss of the scores that count."""
        labels, back = truths[found.truth, 1].long(), self.background_label_id
        self.require_label(labels)
        if self.map_object_to_agnostic:
            labels = torch.full_like(labels, back + 1)
        if others is not None:
            rows = torch.cat([logits[found.item, found.place], logits[others.item, others.place]])
            target = F.pad(labels, (0, len(others.item)), value=back)
            ones = F.one_hot(target, self.classes).bool()
        else:
            rows, ones = logits.flatten(0, 1), self._all_targets(found, labels, logits)
        if self.conf_loss_type == "SOFTMAX":
            return _ClassLoss.apply(rows, ones.to(rows), FLT_MIN)
        # the forks fill all targets with the background's number before they write the ones
        target = torch.where(ones, 1.0, float(back)).to(rows)
        return F.binary_cross_entropy_with_logits(rows, target, reduction="sum")

    def _all_targets(self, found, labels, logits):
        """Where the ones of the targets stand, of all prior boxes of all items."""
        items, count, classes = logits.shape
        if self.conf_loss_type == "LOGISTIC":
            ones = torch.zeros(logits.numel(), dtype=torch.bool, device=logits.device)
            ones[found.item * count + found.place * classes + labels] = True
            return ones.reshape(-1, classes)
        target = torch.full((items * count,), self.background_label_id, device=logits.device)
        for key in self.keys:  # a prior box of several labels is the last one's
            here = found.key == key
            target[(found.item * count + found.place)[here]] = labels[here]
        return F.one_hot(target, classes).bool()

    def onnx(self, graph, *bottoms):
        return (write_loss(self, graph, bottoms),)
