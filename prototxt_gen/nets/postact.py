"""ResNet-101 of 2015, exactly under the layer names of He's published Caffe files, so that its weights load."""

from __future__ import annotations

from ..builder import NetBuilder
from .config import NetConfig
from .resnet import Unit, stem, units
from .verbs import conv_bn, conv_bn_relu


def main_net(net: NetBuilder, config: NetConfig, image: str) -> tuple[str, str]:
    """The image to X, N x 1024 x 14 x 14, and to the last map, N x 2048 x 7 x 7."""
    x, maps = stem(net, config, image), {}
    for unit in units(net, config):
        x = maps[unit.ends] = residual_unit(net, config, unit, x)
    return maps[4], maps[5]


def residual_unit(net: NetBuilder, config: NetConfig, unit: Unit, x: str) -> str:
    """The shortcut plus the bottleneck of x (1x1 with the stride, 3x3, 1x1), rectified: blob `<name>_relu`."""
    name, inner = unit.name, unit.channels // config.main.expansion
    shortcut = conv_bn(net, f"{name}_branch1", x, unit.channels, 1, stride=unit.stride) if unit.first else x
    residual = conv_bn_relu(net, f"{name}_branch2a", x, inner, 1, stride=unit.stride)
    residual = conv_bn_relu(net, f"{name}_branch2b", residual, inner, 3, pad=1)
    residual = conv_bn(net, f"{name}_branch2c", residual, unit.channels, 1)
    return net.ReLU(f"{name}_relu", net.Eltwise(name, shortcut, residual, operation="SUM"))
