"""TensorFlow's DepthToSpace and SpaceToDepth in synopsys-caffe."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch

from ..base import Layer, Misfit, register, show

# What the channels are that become blocks of cells: `b` rows and columns of a block, `c` the channels that are left.
_DEEP = {"NHWC": "nhwbBc", "NCHW": "nbBchw", "DCR": "nbBchw", "CRD": "ncbBhw"}
_WIDE = {"NHWC": "nhbwBc", "NCHW": "nchbwB", "DCR": "nchbwB", "CRD": "nchbwB"}


class _Depth(Layer):
    """Channels as blocks of block_size x block_size cells, or the reverse."""

    pack = "synopsys"
    family = "reshaping"
    never_in_place = True
    formats: ClassVar[tuple[str, ...]] = ()

    block_size: int = 0
    data_format: str = "NHWC"

    def check(self, x: tuple[int, ...]) -> None:
        """Raise Misfit for anything but four axes in a known order, and a block."""
        if self.block_size < 1:
            raise Misfit(f"block_size {self.block_size}", "1 or more", "block_size")
        if self.data_format not in self.formats:
            raise Misfit(f"data_format {self.data_format}", "one of: " + ", ".join(self.formats), "data_format")
        if len(x) != 4:
            raise Misfit(f"an input of {show(x)}", "4 axes", "bottom")

    def places(self) -> tuple[int, int, int]:
        """Where height, width and channels stand."""
        return (1, 2, 3) if self.data_format == "NHWC" else (2, 3, 1)

    def parts(self, fine: str, sizes: dict[str, int]) -> tuple[int, ...]:
        """The extents of axes by their letters, the first one as -1."""
        return tuple({**sizes, "n": -1}[letter] for letter in fine)

    def letters(self) -> tuple[str, str]:
        """The axes as they are split, and in the order of the top."""
        raise NotImplementedError

    def sizes(self, x: tuple[int, ...]) -> dict[str, int]:
        """Letter -> extent."""
        raise NotImplementedError

    def moved(self, x: Any, shape: tuple[int, ...], transposed: Any) -> Any:
        """The values in the order of the top, with NumPy or torch."""
        fine, order = self.letters()
        (top,) = self.top_shapes(shape)
        split = self.parts(fine, self.sizes(shape))
        split = (shape[0], *split[1:])
        return transposed(x.reshape(split), [fine.index(letter) for letter in order]).reshape(top)

    def reference(self, blobs, x):
        return (self.moved(x, x.shape, np.transpose),)

    def forward(self, module, x):
        return (self.moved(x, tuple(x.shape), torch.permute),)

    def onnx(self, graph, x):
        shape = graph.shape(x)
        fine, order = self.letters()
        y = graph.reshape(x, self.parts(fine, self.sizes(shape)))
        y = graph.op("Transpose", y, perm=[fine.index(letter) for letter in order])
        return (graph.reshape(y, (-1, *self.top_shapes(shape)[0][1:])),)


@register
class DepthToSpace(_Depth):
    """Blocks of cells out of channels: block by channel (NHWC, NCHW, DCR) or channel by block (CRD).

    The forks' depth_to_space_layer.
    """

    type = "DepthToSpace"
    param = ("depth_to_space_param",)
    formats = ("NHWC", "NCHW", "DCR", "CRD")

    def top_shapes(self, x):
        self.check(x)
        high, wide, deep = self.places()
        if x[deep] % self.block_size**2:
            raise Misfit(f"{x[deep]} channels", f"a multiple of {self.block_size**2}", "block_size")
        top = list(x)
        top[high], top[wide] = x[high] * self.block_size, x[wide] * self.block_size
        top[deep] = x[deep] // self.block_size**2
        return (tuple(top),)

    def letters(self):
        return _DEEP[self.data_format], _WIDE[self.data_format]

    def sizes(self, x):
        high, wide, deep = self.places()
        block = self.block_size
        return {"h": x[high], "w": x[wide], "c": x[deep] // block**2, "b": block, "B": block}


@register
class SpaceToDepth(_Depth):
    """Channels out of blocks of cells, block by channel; the forks' space_to_depth_layer."""

    type = "SpaceToDepth"
    param = ("space_to_depth_param",)
    formats = ("NHWC", "NCHW")

    def top_shapes(self, x):
        self.check(x)
        high, wide, deep = self.places()
        if x[high] % self.block_size or x[wide] % self.block_size:
            raise Misfit(f"{x[high]}x{x[wide]} cells", f"multiples of {self.block_size}", "block_size")
        top = list(x)
        top[high], top[wide] = x[high] // self.block_size, x[wide] // self.block_size
        top[deep] = x[deep] * self.block_size**2
        return (tuple(top),)

    def letters(self):
        return _WIDE[self.data_format], _DEEP[self.data_format]

    def sizes(self, x):
        high, wide, deep = self.places()
        block = self.block_size
        return {"h": x[high] // block, "w": x[wide] // block, "c": x[deep], "b": block, "B": block}
