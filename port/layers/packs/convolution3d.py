"""C3D's convolutions over time, height and width: Convolution3D, Deconvolution3D."""

from __future__ import annotations

from typing import Any

from ..base import Misfit, register
from ..convolution import Convolution, Convolving
from ..deconvolution import Deconvolution
from ..spatial import require


class _OverTime(Convolving):
    """What both directions share: one size for time, and one for height and width.

    The fields stand in `convolution3d_param`, in C3D's first version in `convolution_param`.
    """

    param = ("convolution3d_param", "convolution_param")
    bottom_count = top_count = (1, 1)
    bias_axes = (1, 1, 1, 1)

    kernel_depth: int | None = None
    temporal_stride: int = 1
    temporal_pad: int = 0
    filter_group: int = 1  # saves memory; the groups of filters all look at all channels

    def checked(self, bottoms):
        for name, unset in _OTHERS.items():
            if getattr(self, name, unset) != unset:
                raise Misfit(f"{name} of a {self.type}", "none: C3D's layer has no such field", name)
        if len(bottoms[0]) != 5:
            raise Misfit(f"an input with {len(bottoms[0])} axes", "5 axes: N, C, time, H, W", "bottom")
        if self.filter_group < 1 or (self.num_output or 0) % self.filter_group:
            raise Misfit(f"filter_group {self.filter_group}", "a number that divides num_output", "filter_group")
        return super().checked(bottoms)

    def sizes(self, axes):
        found = []
        for name, first, given in (
            ("kernel_size", self.kernel_depth, self.kernel_size),
            ("stride", self.temporal_stride, self.stride),
            ("pad", self.temporal_pad, self.pad),
        ):
            found.append(_sizes(name, first, given))
            require(name, found[-1], int(name != "pad"))
        return (*found, (1, 1, 1))


_OTHERS = {
    **dict.fromkeys(f"{name}_{side}" for name in ("pad", "kernel", "stride", "hole") for side in "hw"),
    **dict.fromkeys(("hole", "pad_type")),
    **dict.fromkeys(("pad_t", "pad_b", "pad_l", "pad_r"), 0),
    **{"dilation": (), "group": 1, "axis": 1, "force_nd_im2col": False, "engine": "DEFAULT"},
}


def _sizes(name: str, first: int | None, given: Any) -> tuple[int, ...]:
    """The numbers for time, height and width; BVLC reads a field as a list that is one number in C3D."""
    values = given if isinstance(given, tuple) else () if given is None else (given,)
    if len(values) > 1:
        raise Misfit(f"{len(values)} values of {name}", "1, for height and width", name)
    default = {"stride": 1, "pad": 0}.get(name)
    wide = values[0] if values else default
    if first is None or wide is None:
        raise Misfit("no kernel_size or no kernel_depth", "both", name)
    return (first, wide, wide)


@register
class Convolution3D(_OverTime, Convolution):
    """Cross-correlation of N x C x L x H x W with zero padding; C3D's convolution3d_layer."""

    type = "Convolution3D"
    pack = "c3d"


@register
class Deconvolution3D(_OverTime, Deconvolution):
    """The transpose of Convolution3D, weights C x num_output x L x H x W; C3D's deconvolution3d_layer."""

    type = "Deconvolution3D"
    pack = "c3d"

    @classmethod
    def read(cls, message):
        values = super().read(message)
        # the layer looks for bias_term in convolution_param alone, so that the other one always leaves a bias
        if message.convolution3d_param.HasField("bias_term"):
            values["bias_term"] = message.convolution_param.bias_term
        return values
