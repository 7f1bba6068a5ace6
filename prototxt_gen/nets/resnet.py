"""ResNet-101 with pre-activation residual units (3.1), under He's layer names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..builder import NetBuilder
from .config import NetConfig
from .verbs import bn_relu, conv, conv_bn_relu, fully_connected


@dataclass(frozen=True)
class Unit:
    """One residual unit of the main net, in order."""

    name: str
    channels: int
    stride: int
    first: bool  # of its stage: its shortcut is a convolution
    ends: int  # the stage that it ends, else 0


def units(net: NetBuilder, config: NetConfig) -> Iterator[Unit]:
    """The residual units of all stages; begins the section of each stage."""
    main, side = config.main, config.main.image // 4
    for stage, (count, channels) in enumerate(zip(main.units, main.outputs, strict=True), start=2):
        stride = 1 if stage == 2 else 2
        side //= stride
        names = unit_names(stage, count, config.network.extra_units if stage == 5 else 0)
        net.section(f"Main net f_cnn: res{stage}, {len(names)} residual units, to {side}x{side}x{channels}")
        for index, name in enumerate(names):
            first = index == 0
            yield Unit(name, channels, stride if first else 1, first, stage if index == len(names) - 1 else 0)


def main_net(net: NetBuilder, config: NetConfig, image: str) -> tuple[str, str]:
    """f_cnn (3.1): the image to X, N x 1024 x 14 x 14, and to the last map, N x 2048 x 7 x 7."""
    x = activated = stem(net, config, image)
    maps = {}
    for unit in units(net, config):
        x = residual_unit(net, config, unit, activated, None if unit.first else x)
        activated = maps[unit.ends] = bn_relu(net, unit.name, x)
    return maps[4], maps[5]


def stem(net: NetBuilder, config: NetConfig, image: str) -> str:
    """7x7 convolution and max pooling, each halving the map."""
    main = config.main
    net.section(f"Main net f_cnn (3.1): stem, to {main.image // 4}x{main.image // 4}x{main.stem}", part="main net")
    x = conv_bn_relu(net, "conv1", image, main.stem, 7, stride=2, pad=3)
    pad = {"pad": main.pool1_pad} if main.pool1_pad else {}
    return net.Pooling("pool1", x, pool="MAX", kernel_size=3, stride=2, **pad)


def residual_unit(net: NetBuilder, config: NetConfig, unit: Unit, x: str, shortcut: str | None) -> str:
    """The bottleneck of x (1x1, 3x3 with the stride, 1x1) plus the shortcut; None: a 1x1 convolution of x."""
    name, inner = unit.name, unit.channels // config.main.expansion
    residual = conv_bn_relu(net, f"{name}_branch2a", x, inner, 1)
    residual = conv_bn_relu(net, f"{name}_branch2b", residual, inner, 3, stride=unit.stride, pad=1)
    residual = conv(net, f"{name}_branch2c", residual, unit.channels, 1, bias=False)
    if shortcut is None:
        shortcut = conv(net, f"{name}_branch1", x, unit.channels, 1, stride=unit.stride, bias=False)
    return net.Eltwise(name, residual, shortcut, operation="SUM")


def unit_names(stage: int, count: int, extra: int = 0) -> list[str]:
    """He's names: letters in short stages (res2a, res2b, res2c), numbers in others (res4a, res4b1, ...)."""
    if count <= 3:
        return [f"res{stage}{letter}" for letter in "abcdefgh"[: count + extra]]
    return [f"res{stage}a", *(f"res{stage}b{number}" for number in range(1, count))]


def classifier(net: NetBuilder, config: NetConfig, features: str) -> str:
    """f_cls (3.1): the average over the 7x7 positions, which it returns, then C logits, y_cls."""
    net.section(f"Classifier f_cls (3.1): y_cls, {config.classes} logits", part="classifier")
    pooled = net.Pooling("pool5", features, pool="AVE", kernel_size=config.main.last_size, stride=1)
    fully_connected(net, f"fc{config.classes}", pooled, config.classes, top="y_cls")
    return pooled
