"""ResNet-SRN (3.2 to 3.4): ResNet-101 and the spatial regularization head. Blobs bear the paper's symbols."""

from __future__ import annotations

from ..builder import NetBuilder
from .config import NetConfig
from .resnet import classifier, main_net
from .verbs import conv, conv_relu, fully_connected


def resnet_srn(config: NetConfig) -> NetBuilder:
    """The full net (figure 2): image to y = alpha y_cls + (1 - alpha) y_sr, C logits."""
    net = NetBuilder(config.network, config.dialect)
    image = net.input("data", config.image_shape)

    X, features = main_net(net, config, image)
    y_cls = classifier(net, config, features)
    A = attention(net, config, X)
    S = confidence(net, config, X)
    U = weighted_attention(net, A, S)
    y_sr = regularization(net, config, U)
    weighted_sum(net, config, y_cls, y_sr)
    return net


def attention(net: NetBuilder, config: NetConfig, X: str) -> str:
    """f_att and the softmax over positions (3.2, eqs 3 and 4): A, N x C x 14 x 14, each map summing to 1."""
    net.section("Attention f_att (3.2): Z, and A, its softmax over the positions of each label", part="attention")
    first, second = config.head.attention
    side = config.main.tap_size
    x = conv_relu(net, "att_conv1", X, first, 1)
    x = conv_relu(net, "att_conv2", x, second, 3, pad=1)
    Z = conv(net, "att_conv3", x, config.classes, 1, top="Z")
    Z = net.Reshape("att_flatten", Z, top="Z_flat", shape={"dim": [0, 0, -1]})
    A = net.Softmax("att_softmax", Z, top="A_flat", axis=2)
    return net.Reshape("att_unflatten", A, top="A", shape={"dim": [0, 0, side, side]})


def confidence(net: NetBuilder, config: NetConfig, X: str) -> str:
    """The paper's conv1 (3.2): label confidences S at each position, N x C x 14 x 14."""
    net.section("Confidence (3.2): S, the paper's conv1", part="confidence")
    return conv(net, "conf_conv1", X, config.classes, 1, top="S")


def weighted_attention(net: NetBuilder, A: str, S: str) -> str:
    """U = sigmoid(S) * A (3.3, eq 8), N x C x 14 x 14."""
    net.section("Regularization f_sr (3.3): U = sigmoid(S) * A, then y_sr", part="regularization")
    S = net.Sigmoid("conf_sigmoid", S, top="S_sigmoid")
    return net.Eltwise("weighted_attention", S, A, top="U", operation="PROD")


def regularization(net: NetBuilder, config: NetConfig, U: str) -> str:
    """f_sr (3.3, figure 4): U to C logits, y_sr; each group of conv4 sees the whole map of one channel."""
    head = config.head
    x = conv_relu(net, "sr_conv2", U, head.conv2, 1)
    x = conv_relu(net, "sr_conv3", x, head.conv3, 1)
    x = conv_relu(net, "sr_conv4", x, head.conv4, head.conv4_size, group=head.conv3)
    return fully_connected(net, "sr_fc", x, config.classes, top="y_sr")


def weighted_sum(net: NetBuilder, config: NetConfig, y_cls: str, y_sr: str) -> str:
    """y = alpha y_cls + (1 - alpha) y_sr (3.4)."""
    alpha = config.head.alpha
    net.section(f"Output (3.4): y = {alpha} y_cls + {1 - alpha} y_sr", part="output")
    return net.Eltwise("weighted_sum", y_cls, y_sr, top="y", operation="SUM", coeff=[alpha, 1 - alpha])
