"""TensorFlow's Gather, GatherV2, GatherND and OneHot in synopsys-caffe."""

from __future__ import annotations

from math import prod

import numpy as np
import torch

from ..base import Layer, Misfit, canonical_axis, register
from ..values import check_places


def _check_indices(indices: tuple[int, ...], shape: tuple[int, ...], field: str) -> None:
    """Raise Misfit unless a list has as many numbers as its shape says."""
    if len(indices) != prod(shape):
        raise Misfit(f"{len(indices)} indices", f"{prod(shape)}, which their shape asks for", field)


@register
class Gather(Layer):
    """The slices along `axis` at the places that `indices` lists, in the form of `shape`; the fork's gather_layer.

    No shape, or 0 alone: one index, and the axis goes away. Not the authors' layer of that name, which has no fields.
    """

    type = "Gather"
    pack = "synopsys"
    family = "reshaping"
    param = ("gather_param",)

    indices: tuple[int, ...] = ()
    shape: tuple[int, ...] = ()
    axis: int = 0

    @classmethod
    def claims(cls, message, context):
        return message.HasField("gather_param")

    @property
    def form(self) -> tuple[int, ...]:
        """The shape of the indices."""
        return () if self.shape == (0,) else self.shape

    def top_shapes(self, x):
        axis = canonical_axis(self.axis, len(x))
        _check_indices(self.indices, self.form, "indices")
        for index in self.indices:
            if index >= x[axis]:
                raise Misfit(f"index {index} of {x[axis]} slices", f"0 to {x[axis] - 1}", "indices")
        return ((*x[:axis], *self.form, *x[axis + 1 :]),)

    def reference(self, blobs, x):
        return (np.take(x, np.reshape(self.indices, self.form).astype(int), self.axis),)

    def forward(self, module, x):
        found = x.index_select(self.axis, torch.tensor(self.indices, device=x.device, dtype=torch.long))
        return (found.reshape(self.top_shapes(tuple(x.shape))[0]),)

    def onnx(self, graph, x):
        places = graph.constant(np.reshape(self.indices, self.form), np.int64)
        return (graph.op("Gather", x, places, axis=canonical_axis(self.axis, len(graph.shape(x)))),)


@register
class GatherV2(Layer):
    """The slices of bottom 0 along `axis` at the places in bottom 1, cut to integers; gather_v2_layer."""

    type = "GatherV2"
    pack = "synopsys"
    family = "reshaping"
    param = ("gather_v2_param",)
    bottom_count = (2, 2)
    no_gradient = (1,)

    axis: int = 0

    def top_shapes(self, x, places):
        axis = canonical_axis(self.axis, len(x))
        return ((*x[:axis], *places, *x[axis + 1 :]),)

    def reference(self, blobs, x, places):
        check_places(places, x.shape[self.axis], "index", whole=True)
        return (np.take(x, places.astype(int), self.axis),)

    def forward(self, module, x, places):
        check_places(places, x.shape[self.axis], "index", whole=True)
        found = x.index_select(self.axis, places.detach().reshape(-1).long())
        return (found.reshape(self.top_shapes(tuple(x.shape), tuple(places.shape))[0]),)

    def onnx(self, graph, x, places):
        axis = canonical_axis(self.axis, len(graph.shape(x)))
        return (graph.op("Gather", x, graph.op("Cast", places, to=7), axis=axis),)


@register
class GatherND(Layer):
    """What stands at the places that `indices` lists, `indices_shape` giving how many numbers a place has last.

    The places go along the first axes; the others come along (gather_nd_layer).
    """

    type = "GatherND"
    pack = "synopsys"
    family = "reshaping"
    param = ("gather_nd_param",)

    indices: tuple[int, ...] = ()
    indices_shape: tuple[int, ...] = ()

    @property
    def places(self) -> np.ndarray:
        """The places, of `indices_shape`."""
        return np.reshape(self.indices, self.indices_shape).astype(np.int64)

    def top_shapes(self, x):
        form = self.indices_shape
        if not form or not prod(form) or form[-1] > len(x):
            found = f"indices_shape {', '.join(map(str, form)) or 'none'} for {len(x)} axes"
            raise Misfit(found, f"numbers above 0, the last at most {len(x)}", "indices_shape")
        _check_indices(self.indices, form, "indices")
        for axis, most in enumerate(self.places.reshape(-1, form[-1]).max(0)):
            if most >= x[axis]:
                raise Misfit(f"index {most} of axis {axis}, which has {x[axis]}", f"0 to {x[axis] - 1}", "indices")
        return ((*form[:-1], *x[form[-1] :]),)

    def reference(self, blobs, x):
        return (x[tuple(np.moveaxis(self.places, -1, 0))],)

    def forward(self, module, x):
        return (x[tuple(torch.from_numpy(self.places).to(x.device).movedim(-1, 0))],)

    def onnx(self, graph, x):
        return (graph.op("GatherND", x, graph.constant(self.places, np.int64)),)


@register
class GatherNd(GatherND):
    """GatherND under the name that the fork's source registers."""

    type = "GatherNd"


@register
class OneHot(Layer):
    """A new axis of `depth`: on_value where it is the bottom's value cut to an integer, else off_value; one_hot_layer.

    A value below 0, or of depth or more, is nowhere on; axis -1 puts the new axis last.
    """

    type = "OneHot"
    pack = "synopsys"
    family = "reshaping"
    param = ("one_hot_param",)
    no_gradient = (0,)

    depth: int = 0
    on_value: float = 1.0
    off_value: float = 0.0
    axis: int = -1

    def place(self, rank: int) -> int:
        """Where the new axis stands."""
        if not -1 <= self.axis <= rank:
            raise Misfit(f"axis {self.axis} of a blob with {rank} axes", f"-1 to {rank}", "axis")
        return rank if self.axis == -1 else self.axis

    def top_shapes(self, x):
        if self.depth < 1:
            raise Misfit("no depth, or 0", "1 or more", "depth")
        place = self.place(len(x))
        return ((*x[:place], self.depth, *x[place:]),)

    def steps(self, rank: int) -> np.ndarray:
        """0 to depth - 1 along the new axis of a blob with `rank` axes more."""
        behind = rank - self.place(rank)
        return np.arange(self.depth, dtype=np.float64).reshape(self.depth, *[1] * behind)

    def reference(self, blobs, x):
        wide = np.expand_dims(np.floor(x), self.place(x.ndim))
        return (np.where(wide == self.steps(x.ndim), self.on_value, self.off_value),)

    def forward(self, module, x):
        wide = x.detach().floor().unsqueeze(self.place(x.dim()))
        on = wide == torch.from_numpy(self.steps(x.dim())).to(wide)
        return (torch.where(on, x.new_tensor(self.on_value), x.new_tensor(self.off_value)),)

    def onnx(self, graph, x):
        rank = len(graph.shape(x))
        wide = graph.op("Unsqueeze", graph.op("Floor", x), graph.constant([self.place(rank)], np.int64))
        on = graph.op("Equal", wide, graph.constant(self.steps(rank)))
        return (graph.op("Where", on, graph.constant(self.on_value), graph.constant(self.off_value)),)
