"""ResNet-101 with pre-activation residual units (3.1), under He's layer names."""

from __future__ import annotations

from ..builder import NetBuilder
from .config import NetConfig
from .verbs import bn_relu, conv, conv_bn_relu, fully_connected


def resnet101(config: NetConfig) -> NetBuilder:
    """The baseline: image to C logits, y_cls."""
    net = NetBuilder(config.network, config.dialect)
    image = net.input("data", config.image_shape)

    _, features = main_net(net, config, image)
    classifier(net, config, features)
    return net


def main_net(net: NetBuilder, config: NetConfig, image: str) -> tuple[str, str]:
    """f_cnn (3.1): the image to X, N x 1024 x 14 x 14, and to the last map, N x 2048 x 7 x 7."""
    main = config.main
    net.section(f"Main net f_cnn (3.1): stem, to {main.image // 4}x{main.image // 4}x{main.stem}", part="main net")
    x = stem(net, config, image)

    activated, maps, side = x, {}, main.image // 4
    for stage, (units, channels) in enumerate(zip(main.units, main.outputs, strict=True), start=2):
        stride = 1 if stage == 2 else 2
        side //= stride
        net.section(f"Main net f_cnn: res{stage}, {units} residual units, to {side}x{side}x{channels}")
        for index, name in enumerate(unit_names(stage, units)):
            if index == 0:
                x = residual_unit(net, config, name, activated, None, channels, stride=stride)
            else:
                x = residual_unit(net, config, name, activated, x, channels)
            activated = bn_relu(net, name, x)
        maps[stage] = activated
    return maps[4], maps[5]


def stem(net: NetBuilder, config: NetConfig, image: str) -> str:
    """7x7 convolution and max pooling, each halving the map."""
    x = conv_bn_relu(net, "conv1", image, config.main.stem, 7, stride=2, pad=3)
    pad = {"pad": config.main.pool1_pad} if config.main.pool1_pad else {}
    return net.Pooling("pool1", x, pool="MAX", kernel_size=3, stride=2, **pad)


def residual_unit(
    net: NetBuilder,
    config: NetConfig,
    name: str,
    x: str,
    shortcut: str | None,
    channels: int,
    *,
    stride: int = 1,
) -> str:
    """The bottleneck of x (1x1, 3x3 with the stride, 1x1) plus the shortcut; None: a 1x1 convolution of x."""
    inner = channels // config.main.expansion
    residual = conv_bn_relu(net, f"{name}_branch2a", x, inner, 1)
    residual = conv_bn_relu(net, f"{name}_branch2b", residual, inner, 3, stride=stride, pad=1)
    residual = conv(net, f"{name}_branch2c", residual, channels, 1, bias=False)
    if shortcut is None:
        shortcut = conv(net, f"{name}_branch1", x, channels, 1, stride=stride, bias=False)
    return net.Eltwise(name, residual, shortcut, operation="SUM")


def unit_names(stage: int, units: int) -> list[str]:
    """He's names: letters in short stages (res2a, res2b, res2c), numbers in others (res4a, res4b1, ...)."""
    if units <= 3:
        return [f"res{stage}{letter}" for letter in "abc"[:units]]
    return [f"res{stage}a", *(f"res{stage}b{number}" for number in range(1, units))]


def classifier(net: NetBuilder, config: NetConfig, features: str) -> str:
    """f_cls (3.1): average over the 7x7 positions, then C logits, y_cls."""
    net.section(f"Classifier f_cls (3.1): y_cls, {config.classes} logits", part="classifier")
    x = net.Pooling("pool5", features, pool="AVE", kernel_size=config.main.last_size, stride=1)
    return fully_connected(net, f"fc{config.classes}", x, config.classes, top="y_cls")
