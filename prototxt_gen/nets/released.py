"""The released net: names of the Torch converter, two more residual units and normalisation in the head.

Layers are named `caffe.<word>_<n>`, with one counter over the main net, and `att.<word>_<n>` in the head;
`facts.RELEASED` says which names are known.
"""

from __future__ import annotations

from ..builder import NetBuilder
from .config import NetConfig
from .head import softmax_over_positions
from .resnet import Unit, units
from .verbs import conv, fully_connected, normalize

_WORDS = {"Convolution": "SpatialConvolution"}  # the converter's, where they are not Caffe's


class Numbered:
    """Writes layers under names with a counter: `caffe.BN_1`."""

    def __init__(self, net: NetBuilder, prefix: str, words: dict[str, str], start: int = 0, in_place: bool = False):
        self.net, self.prefix, self.words, self.count = net, prefix, words, start
        self.in_place = in_place  # whether a ReLU is

    def name(self, type: str) -> str:
        """The next layer's name."""
        name = f"{self.prefix}.{self.words.get(type, type)}_{self.count}"
        self.count += 1
        return name

    def conv(self, x: str, channels: int, kernel: int, stride: int = 1) -> str:
        return conv(self.net, self.name("Convolution"), x, channels, kernel, stride=stride, pad=kernel // 2, bias=False)

    def bn_relu(self, x: str) -> str:
        name = self.name("BN")
        x = normalize(self.net, name, f"{name}_scale", x, in_place=False)
        return self.net.ReLU(self.name("ReLU"), x, in_place=self.in_place)

    def bottleneck(self, x: str, channels: int, expansion: int, stride: int = 1) -> str:
        """1x1, 3x3 with the stride, 1x1, of an activated x."""
        x = self.bn_relu(self.conv(x, channels // expansion, 1))
        x = self.bn_relu(self.conv(x, channels // expansion, 3, stride))
        return self.conv(x, channels, 1)

    def add(self, x: str, shortcut: str) -> str:
        return self.net.Eltwise(self.name("Eltwise"), x, shortcut, operation="SUM")


def main_net(net: NetBuilder, config: NetConfig, image: str) -> tuple[str, str]:
    """f_cnn: the image to X, the sum N x 1024 x 14 x 14, and to the last map, N x 2048 x 7 x 7."""
    layers = Numbered(net, "caffe", _WORDS, in_place=True)
    x = stem(layers, config, image)
    maps: dict[int, str] = {}
    for unit in units(net, config):
        x = maps[unit.ends] = residual_unit(layers, config, unit, x)
    return maps[4], layers.bn_relu(maps[5])


def stem(layers: Numbered, config: NetConfig, image: str) -> str:
    """7x7 convolution and max pooling, each halving the map."""
    main, net = config.main, layers.net
    net.section(f"Main net f_cnn (3.1): stem, to {main.image // 4}x{main.image // 4}x{main.stem}", part="main net")
    name = layers.name("Convolution")
    x = layers.bn_relu(conv(net, name, image, main.stem, 7, stride=2, pad=3, bias=False))
    return net.Pooling(layers.name("Pooling"), x, pool="MAX", kernel_size=3, stride=2)


def residual_unit(layers: Numbered, config: NetConfig, unit: Unit, x: str) -> str:
    """Main branch, then the shortcut, then their sum; the very first unit has no pre-activation."""
    activated = x if unit.name == "res2a" else layers.bn_relu(x)
    residual = layers.bottleneck(activated, unit.channels, config.main.expansion, unit.stride)
    shortcut = layers.conv(activated, unit.channels, 1, unit.stride) if unit.first else x
    return layers.add(residual, shortcut)


def classifier(net: NetBuilder, config: NetConfig, features: str) -> str:
    """f_cls (3.1): the average over the 7x7 positions, which it returns, then C logits, y_cls."""
    net.section(f"Classifier f_cls (3.1): y_cls, {config.classes} logits", part="classifier")
    # The counter goes on behind the last map, whose blob bears its BN's name: caffe.BN_336, caffe.ReLU_337.
    layers = Numbered(net, "caffe", _WORDS, start=int(features.rpartition("_")[2]) + 2)
    x = net.Pooling(layers.name("Pooling"), features, pool="AVE", kernel_size=config.main.last_size, stride=1)
    x = net.Flatten(layers.name("Flatten"), x)
    fully_connected(net, layers.name("InnerProduct"), x, config.classes, top="y_cls")
    return x


def base(net: NetBuilder, config: NetConfig, X: str) -> str:
    """More residual units on X, normalised: what attention and confidence read."""
    count, channels = config.released.extra_units, config.main.tap_channels
    net.section(f"Attention: {count} more residual units on X, caffe.Eltwise_304 in ResNet-101", part="attention")
    layers, x = Numbered(net, "att", {"Convolution": "Conv"}, start=1), X
    for _ in range(count):
        x = layers.add(layers.bottleneck(layers.bn_relu(x), channels, config.main.expansion), x)
    return layers.bn_relu(x)


def _conv_bn_relu(net: NetBuilder, prefix: str, number: int, x: str, channels: int, kernel: int, **fields) -> str:
    x = conv(net, f"{prefix}_Conv_{number}", x, channels, kernel, bias=False, **fields)
    x = normalize(net, f"{prefix}_BN_{number}", f"{prefix}_BN_{number}_scale", x, in_place=False)
    return net.ReLU(f"{prefix}_ReLU_{number}", x)


def attention(net: NetBuilder, config: NetConfig, x: str) -> str:
    """f_att and the softmax over positions (3.2, eqs 3 and 4): A, N x C x 14 x 14, each map summing to 1."""
    net.section("Attention f_att (3.2): Z, and A, its softmax over the positions of each label", part="attention")
    first, second = config.head.attention
    x = _conv_bn_relu(net, "att.att", 1, x, first, 1)
    x = _conv_bn_relu(net, "att.att", 2, x, second, 3, pad=1)
    Z = conv(net, "att.att_Conv_3", x, config.classes, 1, top="Z")
    return softmax_over_positions(net, config, Z, ("att.att_Reshape_4", "att.att_Softmax_5", "att.att_Reshape_6"))


def confidence(net: NetBuilder, config: NetConfig, x: str) -> str:
    """The paper's conv1 (3.2) as two convolutions: label confidences S at each position, N x C x 14 x 14."""
    net.section("Confidence (3.2): S, the paper's conv1 in two", part="confidence")
    x = _conv_bn_relu(net, "att.feat", 1, x, config.released.confidence, 1)
    return conv(net, "att.feat_Conv_2", x, config.classes, 1, top="S")


def weigh(net: NetBuilder, A: str, S: str) -> str:
    """U = sigmoid(S) * A (3.3, eq 8), N x C x 14 x 14."""
    S = net.Sigmoid("att.feat_Sigmoid_3", S, top="S_sigmoid")
    return net.Eltwise("comb.comb_Eltwise_0", S, A, operation="PROD")


def regularization(net: NetBuilder, config: NetConfig, U: str) -> str:
    """f_sr (3.3, figure 4): U to C logits, y_sr; each group of conv4 sees the whole map of one channel."""
    head = config.head
    x = _conv_bn_relu(net, "comb.comb", 1, U, head.conv2, 1)
    x = _conv_bn_relu(net, "comb.comb", 2, x, head.conv3, 1)
    x = _conv_bn_relu(net, "comb.comb", 3, x, head.conv4, head.conv4_size, group=head.conv3)
    return fully_connected(net, "comb.comb_InnerProduct_4", x, config.classes, top="y_sr")
