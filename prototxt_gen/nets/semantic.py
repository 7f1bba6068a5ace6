"""The head of ResNet-101-semantic (4): confidences and features, fully connected, without positions."""

from __future__ import annotations

from ..builder import NetBuilder
from .config import Main, NetConfig
from .verbs import fully_connected


def semantic(net: NetBuilder, config: NetConfig, main: Main) -> str:
    """y_cls and the pooled feature joined, then fully connected layers of 2048, 2048 and C outputs: y."""
    net.section("Semantic head (4): y_cls and pool5, joined, to y", part="semantic")
    feature = net.Flatten("semantic_feature", main.pooled)
    x = net.Concat("semantic_input", main.y_cls, feature, axis=1)
    for number, outputs in enumerate(config.semantic.hidden, start=1):
        x = fully_connected(net, f"semantic_fc{number}", x, outputs)
        x = net.ReLU(f"semantic_fc{number}_relu", x, in_place=True)
    return fully_connected(net, f"semantic_fc{len(config.semantic.hidden) + 1}", x, config.classes, top="y")
