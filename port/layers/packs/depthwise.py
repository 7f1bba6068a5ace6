"""Convolutions of every channel on its own: ConvolutionDepthwise, DepthwiseConvolution."""

from __future__ import annotations

from ..base import register
from ..convolution import Convolution


@register
class ConvolutionDepthwise(Convolution):
    """Convolution with as many groups as channels, whatever `group` says; the forks' conv_depthwise_layer."""

    type = "ConvolutionDepthwise"
    pack = "mobile"
    known_to_opencv = True

    def groups(self, channels):
        return channels


@register
class DepthwiseConvolution(ConvolutionDepthwise):
    """The same in other forks; their depthwise_conv_layer."""

    type = "DepthwiseConvolution"
    known_to_opencv = False
