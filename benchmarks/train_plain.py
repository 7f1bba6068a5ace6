"""ResNet-SRN written by hand in PyTorch, as anybody would: what training through the port is compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

UNITS, CHANNELS = (3, 4, 23, 3), (256, 512, 1024, 2048)
STEM, SIDE, KERNELS, PER_GROUP = 64, 14, 512, 4
EPS, MOMENTUM = 1e-5, 0.1
SOLVER = {"lr": 0.001, "momentum": 0.9, "weight_decay": 0.0005}  # section 3.4 of the paper


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps the size of the map, up to the stride."""
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


def norm(channels: int) -> nn.BatchNorm2d:
    """The normalisation of a map."""
    return nn.BatchNorm2d(channels, EPS, MOMENTUM)


class Unit(nn.Module):
    """A bottleneck unit on an activated map; the first of a stage has a convolution as its shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, first: bool):
        super().__init__()
        inner = outputs // 4
        self.reduce, self.reduce_norm = conv(inputs, inner, 1), norm(inner)
        self.middle, self.middle_norm = conv(inner, inner, 3, stride), norm(inner)
        self.expand = conv(inner, outputs, 1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if first else None
        self.norm = norm(outputs)

    def forward(self, x: torch.Tensor, activated: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The sum (N, C, H, W), and its activation, which the next unit reads."""
        y = F.relu(self.reduce_norm(self.reduce(activated)), inplace=True)
        y = F.relu(self.middle_norm(self.middle(y)), inplace=True)
        y = self.expand(y)
        y = y + (x if self.shortcut is None else self.shortcut(activated))
        return y, F.relu(self.norm(y), inplace=True)


class Head(nn.Module):
    """Attention, confidence and regularization on X (N, 1024, 14, 14): y_att and y_sr, each (N, classes)."""

    def __init__(self, inputs: int, classes: int):
        super().__init__()
        self.attention = nn.Sequential(
            nn.Conv2d(inputs, KERNELS, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(KERNELS, KERNELS, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(KERNELS, classes, 1),
        )
        self.confidence = nn.Conv2d(inputs, classes, 1)
        self.regularization = nn.Sequential(
            nn.Conv2d(classes, KERNELS, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(KERNELS, KERNELS, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(KERNELS, KERNELS * PER_GROUP, SIDE, groups=KERNELS),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(KERNELS * PER_GROUP, classes),
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        z = self.attention(x)
        a = z.flatten(2).softmax(2).view_as(z)
        s = self.confidence(x)
        return (a * s).sum((2, 3)), self.regularization(torch.sigmoid(s) * a)


class PlainSRN(nn.Module):
    """Pre-activation ResNet-101 with the SRN head: images (N, 3, 224, 224) -> y_cls, y_att, y_sr."""

    def __init__(self, classes: int):
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(3, STEM, 7, 2, 3, bias=False), norm(STEM)
        self.stages = nn.ModuleList()
        inputs = STEM
        for stage, (count, outputs) in enumerate(zip(UNITS, CHANNELS, strict=True)):
            units = nn.ModuleList()
            for i in range(count):
                units.append(Unit(inputs, outputs, 2 if stage and not i else 1, not i))
                inputs = outputs
            self.stages.append(units)
        self.classifier = nn.Linear(inputs, classes)
        self.head = Head(CHANNELS[2], classes)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = F.relu(self.stem_norm(self.stem(images)), inplace=True)
        x = activated = F.max_pool2d(x, 3, 2, ceil_mode=True)
        maps = []
        for units in self.stages:
            for unit in units:  # type: ignore[attr-defined]
                x, activated = unit(x, activated)
            maps.append(activated)
        y_cls = self.classifier(F.adaptive_avg_pool2d(maps[3], 1).flatten(1))
        return y_cls, *self.head(maps[2])


def step_of(net: PlainSRN, fast: bool) -> Callable[[torch.Tensor, torch.Tensor], float]:
    """One iteration: forward, backward, update; `fast` with all that PyTorch offers for a CPU."""
    options: Any = {"fused": True} if fast else {}
    optimizer = torch.optim.SGD(net.parameters(), **SOLVER, **options)
    if fast:
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def step(images: torch.Tensor, labels: torch.Tensor) -> float:
        if fast:
            images = images.contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            y_cls, y_att, y_sr = net(images)
        y = 0.5 * y_cls.float() + 0.5 * y_sr.float()
        terms = (F.binary_cross_entropy_with_logits(v.float(), labels, reduction="sum") for v in (y, y_att))
        loss = sum(terms, torch.zeros(())) / len(images)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step
