"""How layers are written with plain torch modules and functions, for a model that needs nothing of this project."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .activations import Dropout, Power, ReLU, Sigmoid
from .affine import Bias, Scale
from .base import Layer, Misfit, Shape, canonical_axis
from .convolution import Convolution
from .deconvolution import Deconvolution
from .eltwise import Eltwise
from .inner_product import InnerProduct
from .local import LRN
from .nonlinear import ELU, AbsVal, PReLU, TanH
from .normalization import BN, BatchNorm
from .packs.normalize import ScaledNormalize
from .packs.permute import Permute
from .pooling import Pooling
from .shaping import Concat, Flatten, Reshape, Slice, Split
from .softmax import Softmax

Blobs = list[np.ndarray]


@dataclass
class Piece:
    """A layer as Python: `make` builds its module ({} are `args`; "" where it has none), `call` computes its tops.

    In `call` {m} is the module and {0}, {1} are the bottoms. `state` holds the module's tensors under their names,
    `helpers` names what the file must define besides.
    """

    call: str
    make: str = ""
    args: tuple[Any, ...] = ()
    state: dict[str, np.ndarray] = field(default_factory=dict)
    helpers: tuple[str, ...] = ()


Rule = Callable[[Any, Blobs, list[Shape], list[Shape]], Piece]
RULES: dict[type[Layer], Rule] = {}


def plain(cls: type[Layer]) -> Callable[[Rule], Rule]:
    """Decorator: the rule of exactly this class; a fork's variant of a type is another class."""

    def enter(rule: Rule) -> Rule:
        RULES[cls] = rule
        return rule

    return enter


def piece_of(layer: Layer, blobs: Blobs, bottoms: list[Shape], tops: list[Shape]) -> Piece:
    """A layer in plain torch, at the net's shapes; raises Misfit where there is no plain form."""
    if type(layer) not in RULES:
        raise Misfit(f"{layer.type} has no plain form in PyTorch", fix="export to ONNX, or load the net with `port`")
    return RULES[type(layer)](layer, blobs, bottoms, tops)


def _short(value: float) -> float:
    """A float32 field with the digits that people write: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value)))


def _refuse(wrong: bool, what: str) -> None:
    if wrong:
        raise Misfit(what, "a plain one", fix="export to ONNX, or load the net with `port`")


def _same(values: tuple[int, ...]) -> Any:
    """One number for all axes where they are equal."""
    return values[0] if len(set(values)) == 1 else tuple(values)


def _affine(blobs: Blobs, weight: np.ndarray) -> dict[str, np.ndarray]:
    return {"weight": weight} | ({"bias": blobs[1].reshape(-1)} if len(blobs) > 1 else {})


def _window(kind: str, layer: Any, blobs: Blobs, bottoms: list[Shape], extent: Callable[..., int], group: int) -> Piece:
    axis, (kernel, stride, pad, dilation) = layer.checked(bottoms)
    axes = len(kernel)
    odd = axis != 1 or axes not in (1, 2, 3) or len(bottoms) > 1
    _refuse(odd, f"{layer.type} of {len(bottoms)} bottoms along axis {axis} on {axes} axes")
    _refuse(getattr(layer, "uneven", False), "pads that differ before and after")
    made = tuple(map(extent, bottoms[0][2:], kernel, stride, pad, dilation))
    _refuse(made != layer.top_shapes(*bottoms)[0][2:], "a kernel that reaches beyond the padding")
    more = (f", groups={group}" if group > 1 else "") + ("" if len(blobs) > 1 else ", bias=False")
    more += f", dilation={_same(dilation)}" if set(dilation) != {1} else ""
    args = (bottoms[0][1], layer.num_output, _same(kernel), _same(stride), _same(pad))
    return Piece("{m}({0})", f"nn.{kind}{axes}d({{}}, {{}}, {{}}, {{}}, {{}}{more})", args, _affine(blobs, blobs[0]))


@plain(Convolution)
def _convolution(layer, blobs, bottoms, tops):
    def extent(n, k, s, p, d):
        return (n + 2 * p - d * (k - 1) - 1) // s + 1

    return _window("Conv", layer, blobs, bottoms, extent, layer.groups(bottoms[0][1]))


@plain(Deconvolution)
def _deconvolution(layer, blobs, bottoms, tops):
    def extent(n, k, s, p, d):
        return (n - 1) * s - 2 * p + d * (k - 1) + 1

    return _window("ConvTranspose", layer, blobs, bottoms, extent, layer.group)


@plain(InnerProduct)
def _inner_product(layer, blobs, bottoms, tops):
    axis = canonical_axis(layer.axis, len(bottoms[0]))
    weight = blobs[0].T if layer.transpose else blobs[0]
    bias = "" if len(blobs) > 1 else ", bias=False"
    x = "{0}" if axis == len(bottoms[0]) - 1 else f"{{0}}.flatten({axis})"
    args = (weight.shape[1], weight.shape[0])
    return Piece(f"{{m}}({x})", f"nn.Linear({{}}, {{}}{bias})", args, _affine(blobs, np.ascontiguousarray(weight)))


@plain(Pooling)
def _pooling(layer, blobs, bottoms, tops):
    kernel, stride, pad, tail, out = layer.windows(bottoms[0])
    _refuse(layer.pool not in ("MAX", "AVE") or len(tops) > 1, f"{layer.pool} pooling with {len(tops)} tops")
    clip = any(pad)
    made = []
    for n, k, s, p in zip(bottoms[0][2:], kernel, stride, pad, strict=True):
        count = -(-(n + 2 * p - k) // s) + 1
        made.append(count - 1 if clip and (count - 1) * s >= n + p else count)
    _refuse(tuple(made) != tuple(out) or tuple(tail) != tuple(pad), "windows that are not counted by Caffe's rule")
    if layer.pool == "AVE" and kernel == bottoms[0][2:] and not clip:
        return Piece("{0}.mean((2, 3), keepdim=True)")
    if layer.pool == "AVE":
        cells = [
            np.minimum(np.arange(o) * s - p + k, n + p) - (np.arange(o) * s - p)
            for n, k, s, p, o in zip(bottoms[0][2:], kernel, stride, pad, out, strict=True)
        ]
        _refuse(not np.array_equal(np.outer(*cells), layer.divisor(bottoms[0])), "an average without its padding")
    return Piece(f'pool({{0}}, "{layer.pool}", {kernel}, {stride}, {pad})', helpers=("pool",))


@plain(ReLU)
def _relu(layer, blobs, bottoms, tops):
    _refuse(layer.bounds != (None, None), "a ReLU with bounds")
    slope = layer.negative_slope
    return Piece(f"F.leaky_relu({{0}}, {_short(slope)!r})" if slope else "F.relu({0})")


@plain(PReLU)
def _prelu(layer, blobs, bottoms, tops):
    return Piece("{m}({0})", "nn.PReLU({})", (blobs[0].size,), {"weight": blobs[0].reshape(-1)})


@plain(Power)
def _power(layer, blobs, bottoms, tops):
    _refuse(layer.power != 1, f"a power of {layer.power:g}")
    return Piece(f"{{0}} * {_short(layer.scale)!r} + {_short(layer.shift)!r}")


@plain(Dropout)
def _dropout(layer, blobs, bottoms, tops):
    _refuse(layer.draws or not layer.scale_train, "a Dropout that draws, or scales in TEST phase")
    return Piece("{m}({0})", "nn.Dropout({})", (_short(layer.dropout_ratio),))


def _norm(rank: int, channels: int, eps: float, state: dict[str, np.ndarray], affine: bool) -> Piece:
    kind = {2: 1, 3: 1, 4: 2, 5: 3}.get(rank)
    _refuse(kind is None, f"normalisation of a blob with {rank} axes")
    tail = "" if affine else ", affine=False"
    state = state | {"num_batches_tracked": np.zeros((), np.int64)}
    return Piece("{m}({0})", f"nn.BatchNorm{kind}d({{}}, eps={_short(eps)!r}{tail})", (channels,), state)


@plain(BatchNorm)
def _batch_norm(layer, blobs, bottoms, tops):
    _refuse(not layer.stored, "a BatchNorm by the batch's own statistics")
    factor = np.float32(0 if blobs[2][0] == 0 else 1 / blobs[2][0])
    state = {"running_mean": blobs[0] * factor, "running_var": blobs[1] * factor}
    return _norm(len(bottoms[0]), bottoms[0][1], layer.eps, state, False)


@plain(BN)
def _bn(layer, blobs, bottoms, tops):
    _refuse(not layer.stored, "a BN by the batch's own statistics")
    names = ("weight", "bias", "running_mean", "running_var")
    state = {name: blob.reshape(-1) for name, blob in zip(names, blobs, strict=True)}
    return _norm(len(bottoms[0]), bottoms[0][1], layer.eps, state, True)


def _without_ones(shape: Shape) -> Shape:
    """A shape without the ones in front, which broadcasting adds."""
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    return shape


def _second(layer: Any, bottoms: list[Shape]) -> str:
    """The second bottom with the axes that it lacks."""
    axis, _ = layer.span(*bottoms)
    after = len(bottoms[0]) - axis - len(bottoms[1])
    return "{1}" + f"[{'None, ' * axis}...{', None' * after}]" if axis or after else "{1}"


@plain(Scale)
def _scale(layer, blobs, bottoms, tops):
    if len(bottoms) > 1:
        _refuse(layer.bias_term, "a Scale by a second bottom, with a bias of its own")
        return Piece(f"{{0}} * {_second(layer, bottoms)}")
    wide = _without_ones(layer.expanded(bottoms[0]))
    state = {name: blob.reshape(wide) for name, blob in zip(("weight", "bias"), blobs, strict=False)}
    bias = ", bias=False" if len(blobs) < 2 else ""
    return Piece("{m}({0})", f"Scale({', '.join(['{}'] * len(wide))}{bias})", wide, state, ("Scale",))


@plain(Bias)
def _bias(layer, blobs, bottoms, tops):
    _refuse(len(bottoms) < 2, "a learned Bias alone")
    return Piece(f"{{0}} + {_second(layer, bottoms)}")


@plain(Eltwise)
def _eltwise(layer, blobs, bottoms, tops):
    _refuse(len(set(bottoms)) > 1 or layer.operation in ("DIV", "MIN"), f"Eltwise {layer.operation} of these shapes")
    names = [f"{{{i}}}" for i in range(len(bottoms))]
    if layer.operation == "MAX":
        call = names[0]
        for name in names[1:]:
            call = f"torch.maximum({call}, {name})"
        return Piece(call)
    if layer.operation == "PROD":
        return Piece(" * ".join(names))
    return Piece(" + ".join(n if c == 1 else f"{n} * {_short(c)!r}" for n, c in zip(names, layer.terms, strict=True)))


@plain(Concat)
def _concat(layer, blobs, bottoms, tops):
    names = ", ".join(f"{{{i}}}" for i in range(len(bottoms)))
    return Piece(f"torch.cat([{names}], {layer.along(len(bottoms[0]))})")


@plain(Slice)
def _slice(layer, blobs, bottoms, tops):
    axis, sizes = layer.parts(bottoms[0])
    _refuse(axis == 0, "a Slice of the batch")
    return Piece(f"torch.split({{0}}, {list(sizes)}, {axis})" + ("" if len(tops) > 1 else "[0]"))


@plain(Split)
def _split(layer, blobs, bottoms, tops):
    return Piece("{0}" if len(tops) == 1 else ", ".join(["{0}"] * len(tops)))


@plain(Flatten)
def _flatten(layer, blobs, bottoms, tops):
    rank = len(bottoms[0])
    return Piece(f"{{0}}.flatten({canonical_axis(layer.axis, rank)}, {canonical_axis(layer.end_axis, rank)})")


@plain(Reshape)
def _reshape(layer, blobs, bottoms, tops):
    twice = layer.top_shapes((2 * bottoms[0][0], *bottoms[0][1:]))[0] if bottoms[0] else tops[0]
    _refuse(twice != (2 * tops[0][0], *tops[0][1:]), "a Reshape that moves the batch")
    return Piece(f"{{0}}.reshape{(-1, *tops[0][1:])!r}")


@plain(Permute)
def _permute(layer, blobs, bottoms, tops):
    order = sorted(range(len(bottoms[0])))
    given = [*layer.order, *(axis for axis in order if axis not in layer.order)]
    return Piece(f"{{0}}.permute({', '.join(map(str, given))})")


@plain(Softmax)
def _softmax(layer, blobs, bottoms, tops):
    return Piece(f"torch.softmax({{0}}, {canonical_axis(layer.axis, len(bottoms[0]))})")


@plain(LRN)
def _lrn(layer, blobs, bottoms, tops):
    n, alpha = layer.reach(bottoms[0])
    if layer.within:
        return Piece(f"{{0}} * (1 + {alpha!r} * F.avg_pool2d({{0}} * {{0}}, {n}, 1, {n // 2})) ** {-layer.beta!r}")
    return Piece(f"F.local_response_norm({{0}}, {n}, {alpha!r}, {layer.beta!r}, {layer.k!r})")


@plain(ScaledNormalize)
def _normalize(layer, blobs, bottoms, tops):
    axes = tuple(layer.axes(len(bottoms[0])))
    total = f"({{0}} * {{0}}).sum({axes}, keepdim=True)"
    norm = f"({total}.sqrt() + {_short(layer.eps)!r})" if layer.outside else f"({total} + {_short(layer.eps)!r}).sqrt()"
    wide = _without_ones(layer.wide(bottoms[0]))
    make = f"Scale({', '.join(['{}'] * len(wide))}, bias=False)"
    return Piece(f"{{m}}({{0}} / {norm})", make, wide, {"weight": blobs[0].reshape(wide)}, ("Scale",))


for _cls, _call in {Sigmoid: "torch.sigmoid", TanH: "torch.tanh", AbsVal: "torch.abs"}.items():
    RULES[_cls] = lambda layer, blobs, bottoms, tops, call=_call: Piece(f"{call}({{0}})")  # type: ignore[misc]
RULES[ELU] = lambda layer, blobs, bottoms, tops: Piece(f"F.elu({{0}}, {layer.alpha!r})")
