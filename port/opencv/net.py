"""A Caffe net in OpenCV under Caffe's names, which follows the shapes of its inputs as OpenCV 4's own did."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

from prototxt_gen.base.errors import NetError, Problem, closest

from .cache import Form
from .source import Source

KEPT = 4  # nets for different shapes that stay in memory


class CaffeNet:
    """A net made of Caffe files, with the methods of `cv2.dnn.Net`, which it is to `isinstance`.

    The net is converted for the shapes of its inputs: other shapes in `setInput` take another conversion, at the next
    pass. C++ classes that take a net (`cv2.dnn.DetectionModel`) want `plain()`.
    """

    # No subclass: OpenCV frees its objects in a way that brings the interpreter down for those of subclasses.
    __class__ = property(lambda self: cv2.dnn.Net)  # type: ignore[assignment]

    def __init__(self, source: Source):
        self._source = source
        self._fed: dict[str, np.ndarray] = {}
        self._settings: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        self._nets: OrderedDict[tuple[Any, ...], tuple[Form, Any]] = OrderedDict()
        self._taps: tuple[str, ...] = ()
        self._stale = False
        self._form, self._inner = self._opened({})

    # -- passes -------------------------------------------------------------------------------------------
    def setInput(self, blob: Any, name: str = "", scalefactor: float = 1.0, mean: Sequence[float] = (0, 0, 0, 0)):
        """The values of an input, by default the first; raises NetError for one that the net does not have."""
        inputs = list(self._form.meaning.inputs)
        if name and name not in inputs:
            raise NetError(Problem(f"the net has no input '{name}'", fix=closest(name, inputs)))
        values = np.array(blob.get() if isinstance(blob, cv2.UMat) else blob, np.float32, order="C")
        self._fed[name or inputs[0]] = _scaled(values, float(scalefactor), mean)
        self._stale = True

    def forward(self, *args: Any, **named: Any) -> Any:
        """One pass: the last layer's result, that of a layer or blob, or a list of them for a list of names."""
        wanted = named.pop("outputName", None) or named.pop("outBlobNames", None)
        if wanted is None and args and (isinstance(args[0], (str, list, tuple))):
            names = isinstance(args[0], str) or all(isinstance(each, str) for each in args[0])
            wanted, args = (args[0], args[1:]) if names else (None, args)
        if wanted is None and len(args) > 1 and isinstance(args[1], str):
            wanted, args = args[1], args[:1]
        if not wanted:
            wanted = self._form.meaning.layers[-1][0]
        if isinstance(wanted, str):
            (value,) = self._ready([wanted])
            return self._inner.forward(value)
        values = self._ready(wanted)
        offered = self._form.meaning.outputs  # OpenCV 5 gives all of them or one
        found = dict(zip(offered, self._inner.forward(offered), strict=True))
        return [found[value] for value in values]

    def forwardAsync(self, outputName: str = "") -> Any:
        """A pass that OpenCV's own backend does not have: raises what OpenCV raises."""
        (value,) = self._ready([outputName or self._form.meaning.layers[-1][0]])
        return self._inner.forwardAsync(value)

    def forwardAndRetrieve(self, outBlobNames: Sequence[str]) -> Any:
        """One pass: for each name a list of its layer's results."""
        return [[each] for each in self.forward(list(outBlobNames))]

    def plain(self) -> Any:
        """OpenCV's own net for the present shapes of the inputs, for what is written in C++."""
        self._ready([])
        return self._inner

    def enableFusion(self, fusion: bool) -> None:
        """Whether layers are computed together, which changes rounding alone; OpenCV 5 always decides it itself."""
        if cv2.__version__.startswith("4."):  # that of 5.0 loses its layers at the call
            self._set("enableFusion", (fusion,), {})

    # -- names --------------------------------------------------------------------------------------------
    def getLayerNames(self) -> list[str]:
        """The names of Caffe's layers, in the order of the file."""
        return [layer[0] for layer in self._form.meaning.layers]

    def getLayerId(self, layer: str) -> int:
        """A layer's number, counted from 1; -1 where there is none of that name."""
        names = self.getLayerNames()
        return names.index(layer) + 1 if layer in names else -1

    def getLayersCount(self, layerType: str) -> int:
        """How many layers are of a type of Caffe's."""
        return sum(layer[1] == layerType for layer in self._form.meaning.layers)

    def getLayerTypes(self) -> list[str]:
        """The types of Caffe's layers that the net has."""
        return sorted({layer[1] for layer in self._form.meaning.layers})

    def getUnconnectedOutLayersNames(self) -> list[str]:
        """The layers whose results nothing reads."""
        return list(self._form.meaning.ends)

    def getUnconnectedOutLayers(self) -> Any:
        """Their numbers."""
        return np.array([self.getLayerId(name) for name in self._form.meaning.ends], np.int32)

    def getLayer(self, layerId: Any) -> Any:
        """Raises NetError: the layers of the conversion are not Caffe's."""
        fix = "read weights with port.caffemodel.read_caffemodel; to change them, write another caffemodel"
        raise NetError(Problem(f"the layer {layerId} is not reachable in a converted net", fix=fix))

    def empty(self) -> bool:
        """Whether the net has no layers: never."""
        return False

    # -- conversions --------------------------------------------------------------------------------------
    def _ready(self, names: Sequence[str]) -> list[str]:
        """The values of some layers or blobs, in a net that fits the inputs and has been given them."""
        values = [self._value(name) for name in names]
        fed = {name: values.shape for name, values in self._fed.items()}
        now = {name: tuple(shape) for name, shape in self._form.meaning.inputs.items()}
        missing = set(values) - set(self._form.meaning.outputs)
        if missing or now != now | fed:
            self._taps = tuple(sorted({*self._taps, *missing}))
            self._form, self._inner = self._opened(now | fed)
            self._stale = True
        if self._stale:
            for name in self._form.meaning.read:
                if name in self._fed:
                    self._inner.setInput(self._fed[name], name)
            self._stale = False
        return values

    def _value(self, name: str) -> str:
        """The value under a layer's name, as OpenCV 4 has it, or else a blob's."""
        meaning = self._form.meaning
        by_layer = {layer[0]: layer[2][0] for layer in meaning.layers if layer[2]}
        known = meaning.blobs | by_layer
        if name not in known:
            raise NetError(Problem(f"the net has no layer or blob '{name}'", fix=closest(name, list(known))))
        return known[name]

    def _opened(self, shapes: dict[str, tuple[int, ...]]) -> tuple[Form, Any]:
        key = (self._taps, *sorted(shapes.items()))
        if key not in self._nets:
            form = self._source.form(shapes, self._taps)
            inner = form.open()
            for name, (args, named) in self._settings.items():
                getattr(inner, name)(*args, **named)
            self._nets[key] = form, inner
            if len(self._nets) > KEPT:
                self._nets.popitem(last=False)
        self._nets.move_to_end(key)
        return self._nets[key]

    def _set(self, name: str, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Call a setting on every net that is held, and on those to come."""
        self._settings[name] = args, named
        results = [getattr(inner, name)(*args, **named) for _, inner in self._nets.values()]
        return results[-1]


def _scaled(values: np.ndarray, factor: float, mean: Any) -> np.ndarray:
    """An input less the mean of each of its channels (up to 4), times a factor: OpenCV 5 leaves both to its callers."""
    means = np.zeros(4, np.float32)
    given = np.ravel(np.asarray(mean, np.float32))[:4]
    means[: len(given)] = given
    if means.any():
        if values.ndim < 2 or values.shape[1] > 4:
            found = f"a mean for an input of shape {'x'.join(map(str, values.shape))}"
            raise NetError(Problem(found, "up to 4 channels", "subtract the mean before"))
        values = values - means[: values.shape[1]].reshape(1, -1, *[1] * (values.ndim - 2))
    return values if factor == 1 else values * np.float32(factor)


def _delegate(name: str) -> Callable[..., Any]:
    """A method of `cv2.dnn.Net` that goes to the conversion."""

    def method(self: CaffeNet, *args: Any, **named: Any) -> Any:
        if name.startswith(("setPreferable", "setProfiling", "setTracing", "enable", "disable")):
            return self._set(name, args, named)
        self._ready([])
        return getattr(self._inner, name)(*args, **named)

    method.__name__, method.__doc__ = name, f"OpenCV's `{name}`, of the conversion."
    return method


for _name in dir(cv2.dnn.Net):
    if not _name.startswith(("_", "read")) and _name not in vars(CaffeNet):
        setattr(CaffeNet, _name, _delegate(_name))
