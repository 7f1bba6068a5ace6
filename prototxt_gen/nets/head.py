"""The layers of the spatial regularization head as the paper's text has them (3.2 and 3.3)."""

from __future__ import annotations

from ..builder import NetBuilder
from .config import NetConfig
from .verbs import conv, conv_relu, fully_connected


def base(net: NetBuilder, config: NetConfig, X: str) -> str:
    """Attention and confidence read X as it is."""
    return X


def attention(net: NetBuilder, config: NetConfig, x: str) -> str:
    """f_att and the softmax over positions (3.2, eqs 3 and 4): A, N x C x 14 x 14, each map summing to 1."""
    net.section("Attention f_att (3.2): Z, and A, its softmax over the positions of each label", part="attention")
    first, second = config.head.attention
    x = conv_relu(net, "att_conv1", x, first, 1)
    x = conv_relu(net, "att_conv2", x, second, 3, pad=1)
    Z = conv(net, "att_conv3", x, config.classes, 1, top="Z")
    return softmax_over_positions(net, config, Z, ("att_flatten", "att_softmax", "att_unflatten"), top="A")


def softmax_over_positions(
    net: NetBuilder, config: NetConfig, Z: str, names: tuple[str, str, str], *, top: str | None = None
) -> str:
    """Each map of Z, N x C x 14 x 14, divided among its positions; `names` of the three layers that takes."""
    flatten, softmax, unflatten = names
    side = config.main.tap_size
    Z = net.Reshape(flatten, Z, top="Z_flat", shape={"dim": [0, 0, -1]})
    A = net.Softmax(softmax, Z, top="A_flat", axis=2)
    return net.Reshape(unflatten, A, top=top, shape={"dim": [0, 0, side, side]})


def confidence(net: NetBuilder, config: NetConfig, x: str) -> str:
    """The paper's conv1 (3.2): label confidences S at each position, N x C x 14 x 14."""
    net.section("Confidence (3.2): S, the paper's conv1", part="confidence")
    return conv(net, "conf_conv1", x, config.classes, 1, top="S")


def weigh(net: NetBuilder, A: str, S: str) -> str:
    """U = sigmoid(S) * A (3.3, eq 8), N x C x 14 x 14."""
    S = net.Sigmoid("conf_sigmoid", S, top="S_sigmoid")
    return net.Eltwise("weighted_attention", S, A, top="U", operation="PROD")


def regularization(net: NetBuilder, config: NetConfig, U: str) -> str:
    """f_sr (3.3, figure 4): U to C logits, y_sr; each group of conv4 sees the whole map of one channel."""
    head = config.head
    x = conv_relu(net, "sr_conv2", U, head.conv2, 1)
    x = conv_relu(net, "sr_conv3", x, head.conv3, 1)
    x = conv_relu(net, "sr_conv4", x, head.conv4, head.conv4_size, group=head.conv3)
    return fully_connected(net, "sr_fc", x, config.classes, top="y_sr")
