"""The few phrases the nets are written in: convolutions with normalisation and ReLU, in both dialects."""

from __future__ import annotations

from ..builder import NetBuilder
from ..paper import MainNet

_CONVOLUTION, _FULLY_CONNECTED = MainNet().fillers
EPS = MainNet().eps


def conv(
    net: NetBuilder,
    name: str,
    x: str,
    channels: int,
    kernel: int,
    *,
    stride: int = 1,
    pad: int = 0,
    group: int = 1,
    bias: bool = True,
    top: str | None = None,
) -> str:
    """A convolution; fields at Caffe's default are left out."""
    optional = {"pad": (pad, 0), "stride": (stride, 1), "group": (group, 1), "bias_term": (bias, True)}
    fields = {field: value for field, (value, default) in optional.items() if value != default}
    filler = {"type": _CONVOLUTION}
    return net.Convolution(name, x, top=top, num_output=channels, kernel_size=kernel, weight_filler=filler, **fields)


def conv_relu(net: NetBuilder, name: str, x: str, channels: int, kernel: int, *, pad: int = 0, group: int = 1) -> str:
    """A convolution with bias and a ReLU in place."""
    x = conv(net, name, x, channels, kernel, pad=pad, group=group)
    return net.ReLU(f"{name}_relu", x, in_place=True)


def conv_bn(net: NetBuilder, name: str, x: str, channels: int, kernel: int, *, stride: int = 1, pad: int = 0) -> str:
    """A convolution without bias, normalised, in place where the dialect can train so; He's names."""
    x = conv(net, name, x, channels, kernel, stride=stride, pad=pad, bias=False)
    return normalize(net, *bn_names(name), x, in_place=True)


def conv_bn_relu(
    net: NetBuilder, name: str, x: str, channels: int, kernel: int, *, stride: int = 1, pad: int = 0
) -> str:
    """A convolution without bias, normalised and rectified, in place where the dialect can train so; He's names."""
    x = conv_bn(net, name, x, channels, kernel, stride=stride, pad=pad)
    return net.ReLU(f"{name}_relu", x, in_place=True)


def bn_relu(net: NetBuilder, name: str, x: str) -> str:
    """The pre-activation of the sum `x`, which stays as it is: blob `<name>_relu`."""
    return net.ReLU(f"{name}_relu", normalize(net, *bn_names(name), x, in_place=False))


def bn_names(name: str) -> tuple[str, str]:
    """He's names of the normalisation of a layer: bn2a_branch2a and scale2a_branch2a, bn_conv1 and scale_conv1."""
    suffix = name.removeprefix("res") if name.startswith("res") else f"_{name}"
    return f"bn{suffix}", f"scale{suffix}"


def normalize(net: NetBuilder, name: str, scale: str, x: str, *, in_place: bool) -> str:
    """Batch normalisation of blob `x`: `BN`, or `BatchNorm` and a `Scale` of its own name."""
    if net.dialect == "srn":
        # Never in place: the fork's BN on cuDNN then computes wrong gradients. Its default slope is 0.
        slope, bias = {"type": "constant", "value": 1}, {"type": "constant", "value": 0}
        return net.BN(name, x, slope_filler=slope, bias_filler=bias, eps=EPS)
    x = net.BatchNorm(name, x, in_place=in_place, eps=EPS)
    return net.Scale(scale, x, in_place=True, bias_term=True)


def fully_connected(net: NetBuilder, name: str, x: str, outputs: int, *, top: str | None = None) -> str:
    """A fully connected layer with bias: N x outputs."""
    return net.InnerProduct(name, x, top=top, num_output=outputs, weight_filler={"type": _FULLY_CONNECTED})
