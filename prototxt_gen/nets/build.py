"""Putting a net together: input or data layers, main net, head, and in training the losses."""

from __future__ import annotations

from ..builder import NetBuilder
from .config import Main, NetConfig
from .data import data_layers
from .training import add_losses, check_step, freeze, silence


def build_net(config: NetConfig) -> NetBuilder:
    """The net of a configuration: `.build()` is its message, `.parts` the part each layer belongs to."""
    net = NetBuilder(config.network.name, config.dialect)
    if config.step is None:
        _body(net, config, net.input("data", config.image_shape))
        return net
    image, label = data_layers(net, config)
    _body(net, config, image)
    check_step(net, config, config.step)
    add_losses(net, config, label)
    silence(net, config)
    freeze(net, config.step)
    return net


def _body(net: NetBuilder, config: NetConfig, image: str) -> None:
    """Main net, classifier and the head of the network or of the training step."""
    profile = config.profile
    X, last = profile.main_net(net, config, image)
    pooled = profile.classifier(net, config, last)
    head = config.step.head if config.step else config.network.head
    if head:
        head(net, config, Main(X, pooled))
