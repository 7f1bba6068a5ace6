"""What a Caffe layer is: its fields and five rules, side by side, and the registry of all of them.

A layer type is one class. Its dataclass fields are the schema's fields with the schema's defaults
(`None`: the schema gives none, or whether the field was set matters). Its rules, always in this order:

    top_shapes(*bottom_shapes)     shapes of the tops, integers only
    blobs(*bottom_shapes)          its parameters and statistics, in Caffe's order
    reference(blobs, *bottoms)     plain float64 NumPy: the oracle, sharing nothing with the torch rule
    forward(module, *bottoms)      torch, with Caffe's gradient
    onnx(graph, *bottoms)          ONNX nodes

Its traits (class variables, and methods with a default) say all else that anybody asks about a type: how it is
drawn, what training may do with it, what Caffe adds to its definition. Nothing outside this package compares types.

A rule that meets something Caffe forbids raises `Misfit`; the graph adds file, line and layer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, dataclass_transform

import numpy as np

from prototxt_gen.schema import DIALECTS, is_repeated
from prototxt_gen.schema.dialect import LAYER_TYPES, add_layer_type
from prototxt_gen.schema.habits import Habits, habits

from .memory import MemoryTraits
from .writing import OnnxWriter

if TYPE_CHECKING:
    import torch

Shape = tuple[int, ...]
Array = np.ndarray

FLT_MAX = float(np.finfo(np.float32).max)
FLT_MIN = float(np.finfo(np.float32).tiny)

RULES = ("top_shapes", "reference", "forward", "onnx")
KINDS = ("computing", "loss", "metric", "data", "host-only")
FAMILIES = ("input", "weights", "normalisation", "activation", "pooling", "joining", "reshaping", "other")


def float32(value: float) -> float:
    """A field's default as Caffe holds it, and as a written value arrives from the text."""
    return float(np.float32(value))


class Misfit(Exception):
    """A layer's short complaint: what was found, what was expected, in which field, and the way out."""

    def __init__(self, found: str, expected: str = "", field: str = "", fix: str = ""):
        super().__init__(found)
        self.parts: dict[str, Any] = {"found": found, "expected": expected, "field": field, "fix": fix}


@dataclass(frozen=True)
class BlobSpec:
    """One parameter or statistic of a layer: attribute name, shape, and what it starts as."""

    name: str
    shape: Shape
    filler: Any = 0.0  # a FillerParameter message, or a constant
    statistic: bool = False  # moved by forward, never by the solver


@dataclass(frozen=True)
class Context:
    """Where a layer stands: what its rules may depend on besides its own fields and bottoms."""

    name: str = ""
    phase: str = "TEST"
    dialect: str = "bvlc"
    bottoms: int = 1
    tops: int = 1
    faithful_bugs: bool = False
    in_place: bool = False
    packs: frozenset[str] = frozenset()
    stored: int | None = None  # how many blobs the weights file has for it; None: no file was asked
    made: tuple[str, ...] = ()  # the names of its tops

    @property
    def habits(self) -> Habits:
        """What its Caffe does differently from others."""
        return habits(self.dialect)


@dataclass_transform(kw_only_default=True, frozen_default=True)
@dataclass(frozen=True, kw_only=True)
class Layer(MemoryTraits):
    """Base of all layer types; see the module's text for the rules. Every subclass becomes a dataclass."""

    type: ClassVar[str] = ""
    pack: ClassVar[str] = ""  # the pack of forks that adds it (schema/packs.py); "": one of the two Caffes has it
    param: ClassVar[tuple[str, ...]] = ()  # fields of LayerParameter that hold this type's fields
    kind: ClassVar[str] = "computing"
    bottom_count: ClassVar[tuple[int, int | None]] = (1, 1)  # least and most; None: any number
    top_count: ClassVar[tuple[int, int | None]] = (1, 1)
    no_gradient: ClassVar[tuple[int, ...]] = ()  # bottoms that never get a gradient
    never_in_place: ClassVar[bool] = False  # its top must not be its bottom
    onnx_note: ClassVar[str] = ""  # what the ONNX form leaves out
    fixed_batch: ClassVar[bool] = False  # its ONNX form holds for one batch size only
    family: ClassVar[str] = "other"  # how it is drawn: one of FAMILIES (losses and metrics have their own colour)
    hangs: ClassVar[bool] = False  # drawn below the layer whose blob it changes, value by value
    supplied: ClassVar[bool] = False  # of data layers: the program fills its tops
    selects: ClassVar[bool] = False  # how many items its tops have depends on the values of its bottoms
    selected_axis: ClassVar[int] = 0  # the axis of its tops along which those items stand
    known_to_opencv: ClassVar[bool] = (
        False  # of a pack's type: OpenCV 4 reads it from Caffe files and computes it alike
    )
    detects: ClassVar[bool] = False  # makes detections of raw predictions; an export may leave it out
    carries_state: ClassVar[bool] = False  # what one forward leaves, the next one uses
    across_ranks: ClassVar[bool] = False  # exchanges batches between processes
    default_weight: ClassVar[float] = 1.0  # of a loss's first top, where the net gives none
    in_bfloat16: ClassVar[bool] = False  # computes as well in bfloat16; others' constants need float32's range

    at: Context = Context()

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True, kw_only=True)(cls)

    @classmethod
    def claims(cls, message: Any, context: Context) -> bool:
        """Whether a LayerParameter means this class, where several packs use one name for a type."""
        return True

    @classmethod
    def refuses_in_place(cls, context: Context) -> bool:
        """Whether its top must not be its bottom there."""
        return cls.never_in_place

    @classmethod
    def read(cls, message: Any) -> dict[str, Any]:
        """The fields that a LayerParameter sets for this type."""
        return set_fields(message, cls.param)

    def in_net(self, bottoms: list[Any], nodes: list[Any]) -> Layer:
        """The layer as it is behind these nodes of a net, with these values as bottoms; raises Misfit."""
        return self

    def blobs(self, *bottoms: Shape) -> list[BlobSpec]:
        return []

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        raise NotImplementedError

    def reference(self, blobs: list[Array], *bottoms: Array) -> tuple[Array, ...]:
        raise NotImplementedError

    def forward(self, module: Any, *bottoms: torch.Tensor) -> tuple[torch.Tensor, ...]:
        raise NotImplementedError

    def onnx(self, graph: OnnxWriter, *bottoms: str) -> tuple[str, ...]:
        raise NotImplementedError

    def multiply_adds(self, bottoms: list[Shape], tops: list[Shape]) -> int:
        """Multiply-adds of one forward pass (0 for layers without weights, as is customary)."""
        return 0

    def buffers(self, *bottoms: Shape) -> int:
        """Values that a pass holds at one time besides bottoms and tops, at most: padded or unfolded copies."""
        return 0

    def window(self, bottom: Shape) -> tuple[int, int] | None:
        """Along the first spatial axis, extent and stride of the windows that a top looks through; None: no windows."""
        return None

    def spares_top(self) -> bool:
        """Whether its backward pass does not look at its top, so that the next layer may overwrite that."""
        return False

    def overwriting(self) -> Layer | None:
        """The same layer writing its top into its bottom's memory; None where its backward pass needs the bottom."""
        return None

    def joined(self, following: Layer, module: Any, bottom: Shape) -> tuple[Layer, Layer] | None:
        """This layer and the one that alone reads its top (its `module`), computed at once; None where they cannot."""
        return None

    def needs_plain_layout(self, bottom: Shape) -> bool:
        """Whether PyTorch must not be given its blobs with channels last."""
        return False

    def sums_bottoms(self) -> bool:
        """Whether its top is the plain sum of its bottoms, as where a residual branch ends."""
        return False

    def holds_still(self) -> bool:
        """Whether its blobs stay as they are whatever the net's multipliers say (the fork's `frozen`)."""
        return False

    def complete(self, message: Any) -> None:
        """Add to a LayerParameter what the type's own code in Caffe adds to it before a net is saved."""

    def opencv_agrees(self) -> bool:
        """Whether OpenCV 4's reader of Caffe files computes the layer, as it is set, alike."""
        own = dialects(type(self))
        return self.known_to_opencv or not (self.pack or own) or any(habits(each).read_by_opencv for each in own)

    def modules(self) -> dict[str, Any]:
        """torch modules of the user's that belong to the layer, by attribute name."""
        return {}

    @property
    def train(self) -> bool:
        return self.at.phase == "TRAIN"


REGISTRY: dict[str, type[Layer]] = {}
VARIANTS: dict[str, list[type[Layer]]] = {}  # type -> what packs mean by it beside the class in REGISTRY


def register(cls: type[Layer]) -> type[Layer]:
    """Class decorator: enter a layer type; a duplicate or incomplete one fails at import.

    A pack may have a type of a name that is taken, which its `claims` tells apart. A user's type takes the place of a
    pack's.
    """
    known = REGISTRY.get(cls.type)
    is_variant = bool(known and cls.pack)
    if not cls.type or (known and not cls.pack and not known.pack):
        raise TypeError(f"{cls.__name__}: layer type '{cls.type}' is empty or registered already")
    missing = [rule for rule in RULES if getattr(cls, rule) is getattr(Layer, rule)]
    if missing or cls.kind not in KINDS or cls.family not in FAMILIES:
        raise TypeError(
            f"{cls.__name__}: kind '{cls.kind}', family '{cls.family}', rules missing: {', '.join(missing) or 'none'}"
        )
    if is_variant and cls.claims.__func__ is Layer.claims.__func__:  # type: ignore[attr-defined]
        raise TypeError(f"{cls.__name__}: there is a layer type '{cls.type}', and no `claims` tells them apart")
    if is_variant:
        VARIANTS.setdefault(cls.type, []).append(cls)
        return cls
    REGISTRY[cls.type] = cls
    VARIANTS.pop(cls.type, None)
    add_layer_type(cls.type, cls.param)
    return cls


def dialects(cls: type[Layer]) -> tuple[str, ...]:
    """The dialects in which a layer type exists; none for what packs and users add, which any net may have."""
    return () if cls.pack else tuple(d for d in DIALECTS if cls.type in LAYER_TYPES[d])


def field_names(cls: type[Layer]) -> set[str]:
    """The schema fields that a layer type takes."""
    return {f.name for f in dataclasses.fields(cls)} - {"at"}


def _value(message: Any, field: Any) -> Any:
    value = getattr(message, field.name)
    if field.enum_type is not None:
        names = field.enum_type.values_by_number
        return tuple(names[v].name for v in value) if is_repeated(field) else names[value].name
    return tuple(value) if is_repeated(field) else value


def set_fields(message: Any, param: Iterable[str]) -> dict[str, Any]:
    """The fields that a LayerParameter sets within the given `*_param` messages, as Python values."""
    values = {}
    for name in param:
        if name in message.DESCRIPTOR.fields_by_name and message.HasField(name):
            values.update({f.name: _value(getattr(message, name), f) for f, _ in getattr(message, name).ListFields()})
    return values


def canonical_axis(axis: int, rank: int, field: str = "axis") -> int:
    """A Caffe axis (negative: from the end) as a plain index; raises Misfit when out of range."""
    if not -rank <= axis < rank:
        raise Misfit(f"axis {axis} of a blob with {rank} axes", f"{-rank} to {rank - 1}", field)
    return axis % rank


def values_of(layer: Layer) -> dict[str, Any]:
    """A layer's fields and place, for another one that computes the same."""
    return {field.name: getattr(layer, field.name) for field in dataclasses.fields(layer)}


def as_shape(message: Any) -> Shape:
    """A BlobShape message as a tuple."""
    return tuple(int(d) for d in message.dim)


def per_item(x: Any) -> Any:
    """An array or tensor as items x values, also when there are no items."""
    return x.reshape(x.shape[0], prod(x.shape[1:]))


def at_least(rank: int, shape: Shape) -> None:
    """Raise Misfit for a bottom with fewer axes."""
    if len(shape) < rank:
        raise Misfit(f"an input with {len(shape)} axes", f"{rank} or more", "bottom")


def at_most_4(*shapes: Shape) -> None:
    """Raise Misfit for a bottom with more axes than N, C, H, W, where Caffe asks for these by name (LegacyShape)."""
    for shape in shapes:
        if len(shape) > 4:
            raise Misfit(f"an input with {len(shape)} axes", "at most 4: N, C, H, W", "bottom")


def same_shape(shapes: Iterable[Shape]) -> None:
    """Raise Misfit unless all bottoms have one shape."""
    shapes = list(shapes)
    if any(s != shapes[0] for s in shapes):
        raise Misfit("bottoms of different shapes: " + ", ".join(map(show, shapes)), "equal shapes", "bottom")


def show(shape: Shape) -> str:
    """A shape as people write it: 1x3x224x224, and () for a scalar."""
    return "x".join(map(str, shape)) if shape else "()"
