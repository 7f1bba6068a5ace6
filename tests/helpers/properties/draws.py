"""Drawing a random layer of a type: shapes, fields, phase, and now and then something that Caffe refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from .nets import Bottom, Case, Shape, Word

Draw = Callable[[Any], Any]
Maker = Callable[[Draw, str], Case]
MAKERS: dict[str, Maker] = {}


def drawn(*types: str) -> Callable[[Maker], Maker]:
    """Enter the function that draws the cases of some layer types; a function of several takes the type too."""

    def enter(function: Any) -> Any:
        for type in types:
            MAKERS[type] = function if len(types) == 1 else _of_type(function, type)
        return function

    return enter


def _of_type(function: Any, type: str) -> Maker:
    return lambda draw, dialect: function(draw, dialect, type)


@st.composite
def cases(draw: Any, type: str, dialect: str) -> Case:
    """A random layer of a type."""
    return MAKERS[type](draw, dialect)


def extents(draw: Draw, rank: int, low: int = 1, high: int = 6) -> Shape:
    """All different."""
    return tuple(draw(st.permutations(range(low, high + 1)))[:rank])


def shape_of(draw: Draw, ranks: tuple[int, ...], odd_ranks: tuple[int, ...] = ()) -> Shape:
    """A shape of one of some ranks, seldom of one of the odd ones."""
    rank = draw(st.sampled_from(odd_ranks)) if odd_ranks and seldom(draw) else draw(st.sampled_from(ranks))
    return extents(draw, rank, high=max(6, rank + 1))


def seldom(draw: Draw) -> bool:
    """True once in a while."""
    return draw(st.integers(0, 11)) == 11


def maybe(draw: Draw, name: str, values: Any) -> dict[str, Any]:
    """A field, or nothing."""
    strategy = values if isinstance(values, st.SearchStrategy) else st.sampled_from(values)
    return {name: draw(strategy)} if draw(st.booleans()) else {}


def fields(*parts: dict[str, Any]) -> dict[str, Any]:
    """Several parts of a block as one."""
    return {name: value for part in parts for name, value in part.items()}


def seed(draw: Draw) -> int:
    return draw(st.integers(0, 2**31))


def phase(draw: Draw) -> str:
    return draw(st.sampled_from(["TEST", "TRAIN"]))


NUMBERS = st.sampled_from([0.5, -0.25, 2.0, 1.0, -1.5, 0.1, 0.0, 3.0])
POSITIVE = st.sampled_from([0.5, 0.25, 2.0, 1.0, 1.5, 0.1, 3.0])

# Field -> values, for the layers that take each number on its own.
_BLOCKS: dict[str, tuple[str, dict[str, Any]]] = {
    "ReLU": ("relu_param", {"negative_slope": NUMBERS}),
    "PReLU": ("prelu_param", {"channel_shared": st.booleans()}),
    "ELU": ("elu_param", {"alpha": NUMBERS}),
    "Sigmoid": ("sigmoid_param", {"engine": [Word("CAFFE"), Word("CUDNN")]}),
    "TanH": ("tanh_param", {"engine": [Word("CAFFE"), Word("CUDNN")]}),
    "AbsVal": ("", {}),
    "BNLL": ("", {}),
    "Exp": ("exp_param", {"base": [-1.0, 2.0, 0.5, 10.0, 0.0, -2.0], "scale": NUMBERS, "shift": NUMBERS}),
    "Threshold": ("threshold_param", {"threshold": NUMBERS}),
    "Swish": ("swish_param", {"beta": NUMBERS}),
    "Dropout": ("dropout_param", {"dropout_ratio": [0.3, 0.5, 0.9, 0.0, 1.0, 1.5, -0.5]}),
    "Softmax": ("softmax_param", {"axis": st.integers(-4, 4)}),
    "MVN": (
        "mvn_param",
        {"normalize_variance": st.booleans(), "across_channels": st.booleans(), "eps": [1e-9, 0.01]},
    ),
    "Normalize": ("", {}),
    "BatchNorm": (
        "batch_norm_param",
        {"use_global_stats": st.booleans(), "moving_average_fraction": [0.9, 0.5, 0.0], "eps": [1e-5, 0.1]},
    ),
    "BN": ("bn_param", {"momentum": [0.9, 0.5, 1.0], "eps": [1e-5, 0.1], "frozen": st.booleans()}),
}
_RANKS = {"BN": ((2, 3, 4), (1, 5)), "MVN": ((2, 3, 4), (0, 1, 5)), "Normalize": ((1, 2, 3, 4), (0, 5))}
_KINDS = ["normal", "quantised", "spread"]


@drawn(*_BLOCKS)
def element_wise(draw: Draw, dialect: str, type: str) -> Case:
    param, choices = _BLOCKS[type]
    block = fields(*(maybe(draw, name, values) for name, values in choices.items()))
    ranks, odd = _RANKS.get(type, ((1, 2, 3, 4, 5), (0,)))
    kind = "spread" if type in ("MVN", "Normalize", "BatchNorm", "BN") else draw(st.sampled_from(_KINDS))
    return Case(
        type,
        dialect,
        (Bottom(shape_of(draw, ranks, odd), kind),),
        {param: block} if param and (block or draw(st.booleans())) else {},
        phase="TEST" if type == "Dropout" else phase(draw),
        in_place=draw(st.integers(0, 3)) == 3,
        seed=seed(draw),
    )


@drawn("Power")
def power(draw: Draw, dialect: str) -> Case:
    exponent = draw(st.sampled_from([1.0, 2.0, 0.0, 3.0, 0.5, -1.0, -0.5, 1.5]))
    block = fields(maybe(draw, "scale", NUMBERS), maybe(draw, "shift", NUMBERS))
    if exponent not in (1.0, 2.0, 0.0, 3.0):  # a positive base, and far from 0
        block = {"shift": draw(POSITIVE), **({"scale": draw(POSITIVE)} if draw(st.booleans()) else {})}
    bottom = Bottom(shape_of(draw, (1, 2, 3, 4, 5), (0,)), "normal" if exponent in (1.0, 2.0, 0.0, 3.0) else "positive")
    return Case(
        type="Power",
        dialect=dialect,
        bottoms=(bottom,),
        fields={"power_param": {"power": exponent, **block}},
        in_place=seldom(draw),
        seed=seed(draw),
    )


@drawn("Log")
def log(draw: Draw, dialect: str) -> Case:
    block = {
        "shift": draw(st.sampled_from([1.5, 3.0])),
        **maybe(draw, "base", [-1.0, 2.0, 10.0, 0.5, 1.0, -2.0]),
    }
    bottom = Bottom(shape_of(draw, (1, 2, 4, 5), (0,)), "positive")
    return Case("Log", dialect, (bottom,), {"log_param": {**block, **maybe(draw, "scale", POSITIVE)}}, seed=seed(draw))


@drawn("Clip")
def clip(draw: Draw, dialect: str) -> Case:
    low, high = draw(st.sampled_from([(-1.0, 1.0), (0.0, 0.5), (-2.0, -0.5), (0.5, 0.5)]))
    bottom = Bottom(shape_of(draw, (1, 2, 3, 4, 5)), draw(st.sampled_from(_KINDS)))
    return Case("Clip", dialect, (bottom,), {"clip_param": {"min": low, "max": high}}, seed=seed(draw))


@drawn("Eltwise")
def eltwise(draw: Draw, dialect: str) -> Case:
    shape, number = shape_of(draw, (1, 2, 3, 4, 5), (0,)), draw(st.integers(2, 4))
    operation = draw(st.sampled_from(["SUM", "PROD", "MAX"]))
    block: dict[str, Any] = {"operation": Word(operation)} if operation != "SUM" or draw(st.booleans()) else {}
    if (operation == "SUM" and draw(st.booleans())) or seldom(draw):
        number_of = number + 1 if seldom(draw) else number
        block["coeff"] = [draw(NUMBERS) for _ in range(number_of)]
    block |= maybe(draw, "stable_prod_grad", st.booleans())
    bottoms = [Bottom(shape, draw(st.sampled_from(_KINDS)))] * number
    if seldom(draw) and shape:
        bottoms[-1] = Bottom((*shape[:-1], shape[-1] + 1))
    if seldom(draw):
        bottoms = bottoms[:1]
    return Case("Eltwise", dialect, tuple(bottoms), {"eltwise_param": block} if block else {}, seed=seed(draw))


@drawn("Scale", "Bias")
def spanning(draw: Draw, dialect: str, type: str) -> Case:
    shape = shape_of(draw, (1, 2, 3, 4, 5), (0,))
    rank = len(shape)
    block = maybe(draw, "axis", st.integers(-rank - seldom(draw), max(rank - 1 + seldom(draw), 0)))
    axis = block.get("axis", 1) % max(rank, 1)
    bottoms = [Bottom(shape)]
    if draw(st.booleans()):
        most = rank - axis
        operand = shape[axis : axis + draw(st.integers(0, most))]
        operand = (*operand[:-1], operand[-1] + 1) if operand and seldom(draw) else operand
        bottoms.append(Bottom(operand))
        block |= {} if operand else {"axis": 0} if seldom(draw) else {}
    else:
        block |= maybe(draw, "num_axes", st.integers(-1, max(rank - axis, 0) + seldom(draw)))
    if type == "Scale":
        block |= maybe(draw, "bias_term", st.booleans())
    return Case(
        type,
        dialect,
        tuple(bottoms),
        {f"{type.lower()}_param": block} if block else {},
        in_place=draw(st.integers(0, 3)) == 3,
        seed=seed(draw),
    )


@drawn("LRN")
def lrn(draw: Draw, dialect: str) -> Case:
    sizes = [1, 3, 5, 7, 9, 4] if seldom(draw) else [1, 3, 5, 7, 9]
    block = fields(
        maybe(draw, "local_size", sizes),
        maybe(draw, "alpha", [0.1, 1.0, 2.0]),
        maybe(draw, "beta", [0.75, 0.5, 2.0]),
        maybe(draw, "k", [1.0, 2.0, 0.5]),
        maybe(draw, "norm_region", [Word("ACROSS_CHANNELS"), Word("WITHIN_CHANNEL")]),
    )
    return Case("LRN", dialect, (Bottom(shape_of(draw, (4,), (2, 3, 5))),), {"lrn_param": block}, seed=seed(draw))


@drawn("Split")
def split(draw: Draw, dialect: str) -> Case:
    tops = draw(st.integers(1, 3))
    return Case(
        "Split",
        dialect,
        (Bottom(shape_of(draw, (1, 3, 5), (0,))),),
        tops=tops,
        in_place=seldom(draw),
        seed=seed(draw),
    )


@drawn("Gather", "Scatter")
def ranks(draw: Draw, dialect: str, type: str) -> Case:
    number = draw(st.integers(1, 2))
    bottoms = tuple(Bottom(shape_of(draw, (2, 4))) for _ in range(number))
    return Case(type, dialect, bottoms, tops=number + seldom(draw), seed=seed(draw))


@drawn("Silence")
def silence(draw: Draw, dialect: str) -> Case:
    bottoms = tuple(Bottom(shape_of(draw, (1, 3), (0,))) for _ in range(draw(st.integers(1, 3))))
    return Case("Silence", dialect, bottoms, tops=0, seed=seed(draw))


@drawn("HDF5Output")
def hdf5_output(draw: Draw, dialect: str) -> Case:
    bottoms = (Bottom(shape_of(draw, (2, 4))), Bottom(shape_of(draw, (1, 2))))
    return Case(
        "HDF5Output",
        dialect,
        bottoms,
        {"hdf5_output_param": {"file_name": "out.h5"}},
        tops=0,
        seed=seed(draw),
    )


@drawn("Parameter")
def parameter(draw: Draw, dialect: str) -> Case:
    dims = list(shape_of(draw, (1, 2, 4), (0,)))
    block = {} if seldom(draw) else {"parameter_param": {"shape": {"dim": dims}}}
    return Case("Parameter", dialect, (), block, seed=seed(draw))


@drawn("DummyData")
def dummy_data(draw: Draw, dialect: str) -> Case:
    tops = draw(st.integers(1, 3))
    number = st.sampled_from([1, tops, tops, tops + 1 if seldom(draw) else 1])
    block: dict[str, Any] = {}
    if draw(st.booleans()):
        block["shape"] = [{"dim": list(shape_of(draw, (1, 2, 4, 5)))} for _ in range(draw(number))]
    else:
        for name in ("num", "channels", "height", "width"):
            block[name] = [draw(st.integers(1, 5)) for _ in range(draw(number))]
        if seldom(draw):
            block["shape"] = [{"dim": [2, 3]}]
    if draw(st.booleans()):
        block["data_filler"] = [maybe(draw, "value", NUMBERS) for _ in range(draw(number))]
    return Case("DummyData", dialect, (), {"dummy_data_param": block}, tops=tops, seed=seed(draw))
