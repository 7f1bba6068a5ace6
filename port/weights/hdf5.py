"""HDF5 weights (`.caffemodel.h5`), as BVLC's Caffe reads and writes them; semantics 6.6.

The blobs of a layer are the float32 datasets `/data/<layer>/0`, `/data/<layer>/1` and so on. Caffe cannot
write a layer whose name has a slash in it; here each part of such a name is a group of its own, which is
also how HDF5 itself understands the path. The authors' fork has no HDF5 weights; here nets of both dialects
can have them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from prototxt_gen.base.errors import Problem, Problems, WeightsError
from prototxt_gen.base.files import atomic_write

from ..caffemodel.layout import MAX_COUNT, MAX_RANK
from ..caffemodel.sniff import printable
from .datasets import values

DATA = "data"  # the group of the layers; Caffe may write `diff` beside it
_DEEPEST = 32
_DAMAGED = "the file is damaged or was not fetched completely: fetch it again and compare its size"


def _refusing_damage(method: Callable) -> Callable:
    """Turn whatever h5py raises on a damaged file into a WeightsError; `self` has the `path`."""

    @wraps(method)
    def checked(self: Any, *args: Any) -> Any:
        try:
            return method(self, *args)
        except WeightsError:
            raise
        except Exception as cause:  # OSError, KeyError, RuntimeError, ...: whatever HDF5 stumbles over
            reason = (str(cause) or type(cause).__name__).splitlines()[0]
            found = f"cannot be read as HDF5: {printable(reason)}"
            raise WeightsError(Problem(found, "HDF5 weights", _DAMAGED, file=self.path)) from None

    return checked


class Hdf5Blob:
    """One dataset: its `shape`, and its values when they are asked for."""

    legacy = False

    def __init__(self, path: Path, dataset: Any):
        self.path, self._dataset = path, dataset
        self.shape: tuple[int, ...] = dataset.shape
        self.count = int(np.prod(self.shape, dtype=object))

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether Caffe loads this blob into `shape`: only into the same one."""
        return self.shape == tuple(shape)

    @property
    def data(self) -> np.ndarray:
        """The values in float32, as Caffe converts them; raises WeightsError, also once the file is closed."""
        return self._read()

    @_refusing_damage
    def _read(self) -> np.ndarray:
        return np.asarray(values(self._dataset), np.float32)

    def __repr__(self) -> str:
        return f"Hdf5Blob({self.shape})"


class Hdf5Layer:
    """A group of the file: the layer's `name` and its `blobs` by index; shared ones may be left out."""

    type = ""  # the file does not tell

    def __init__(self, name: str, blobs: dict[int, Hdf5Blob]):
        self.name, self.blobs = name, blobs

    def __repr__(self) -> str:
        return f"Hdf5Layer({self.name!r}, {self.blobs})"


class Hdf5Model:
    """Open HDF5 weights: `path` and `layers` in the order of their names, which is all that HDF5 keeps."""

    name = ""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._file = self._open()
        try:
            self.layers = self._read_layers()
        except BaseException:
            self.close()
            raise

    @_refusing_damage
    def _open(self) -> Any:
        return h5py.File(self.path, "r")

    @_refusing_damage
    def _read_layers(self) -> list[Hdf5Layer]:
        own = isinstance(self._file.get(DATA, getlink=True), h5py.HardLink)
        top = self._file[DATA] if own else None
        if not isinstance(top, h5py.Group):
            there = ", ".join(printable(name) for name in list(self._file)[:8]) or "nothing"
            found = f"there is no group '{DATA}', but {there}"
            if what := content(self._file):
                found = f"this is {what}: {found}"
            fix = "name a .caffemodel.h5 that Caffe saved"
            raise WeightsError(Problem(found, f"/{DATA}", fix, file=self.path))
        with Problems(WeightsError, self.path) as problems:
            return list(self._walk(top, "", set(), problems))

    def _walk(self, group: Any, name: str, seen: set[int], problems: Problems) -> Iterator[Hdf5Layer]:
        """The layers in a group: itself, if it has blobs or nothing at all, and those whose names go on."""
        address = h5py.h5o.get_info(group.id).addr
        if address in seen or name.count("/") > _DEEPEST:
            problems.add("its groups are nested in each other", layer=printable(name), fix=_DAMAGED)
            return
        seen.add(address)
        blobs: dict[int, Hdf5Blob] = {}
        groups: dict[str, Any] = {}
        for key in group:
            place = {"layer": printable(name), "field": printable(key)}
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                problems.add("a link to somewhere else", expected="a dataset or a group", **place)
            elif isinstance(item := group[key], h5py.Group):
                groups[key] = item
            elif wrong := _wrong_dataset(key, item):
                problems.add(wrong, expected="a dataset of numbers named 0, 1, ...", **place)
            else:
                blobs[int(key)] = Hdf5Blob(self.path, item)
        if name and (blobs or not groups):
            yield Hdf5Layer(name, dict(sorted(blobs.items())))
        for key, item in groups.items():
            yield from self._walk(item, f"{name}/{key}" if name else key, seen, problems)

    def dialect_hint(self) -> tuple[str | None, str]:
        """Always None, and the reason."""
        return None, "an HDF5 file does not tell; of the two Caffes only bvlc's writes it"

    def close(self) -> None:
        """Close the file; arrays already taken from it stay valid."""
        self._file.close()

    def __enter__(self) -> Hdf5Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def content(file: Any) -> str:
    """What an open HDF5 file holds, in words; "" where nothing tells."""
    names, attributes = set(file), set(file.attrs)
    if "iter" in names and names & {"history", "learned_net"}:
        return "a solver state"
    if attributes & {"keras_version", "layer_names"} or "model_weights" in names or {"layers", "vars"} <= names:
        return "a Keras model or its weights"
    if "_NCProperties" in attributes:
        return "a NetCDF file"
    if any("MATLAB_class" in item.attrs for item in file.values() if item is not None):
        return "a MATLAB file (.mat, version 7.3)"
    if isinstance(file.get(DATA), h5py.Dataset):
        return "data for an HDF5Data layer"
    return "weights" if DATA in names else ""


def _wrong_dataset(key: str, item: Any) -> str:
    if not isinstance(item, h5py.Dataset) or item.shape is None:
        return "neither a dataset nor a group"
    if not key.isdecimal() or str(int(key)) != key:
        return "a dataset with a name that is no index"
    if item.dtype.kind not in "fiu":
        return f"a dataset of type {printable(str(item.dtype))}"
    count = int(np.prod(item.shape, dtype=object))
    if count > MAX_COUNT or len(item.shape) > MAX_RANK:
        return f"a dataset of shape {item.shape}, more than Caffe can hold"
    if item.external or item.is_virtual:
        return "a dataset whose values lie in another file"
    if item.chunks is None and item.id.get_storage_size() < count * item.dtype.itemsize:
        return f"a dataset of {count:,} values, of which {item.id.get_storage_size():,} bytes are stored"
    return ""


def write_hdf5(path: str | Path, net_message: Any, blobs: Sequence[Sequence[np.ndarray]]) -> None:
    """Write HDF5 weights from a NetParameter and each layer's blobs, as Caffe does (`Net::ToHDF5`).

    Every layer has a group; a blob shared by `param` name is stored once, with its first layer. Raises
    WeightsError for layer names that HDF5 cannot hold as paths.
    """
    _check_names(path, [layer.name for layer in net_message.layer])
    owned: set[str] = set()
    with atomic_write(path, "w+b") as file, h5py.File(file, "w") as root:
        top = root.create_group(DATA)
        for layer, arrays in zip(net_message.layer, blobs, strict=True):
            group = top.require_group(layer.name)
            for index, array in enumerate(arrays):
                shared = layer.param[index].name if index < len(layer.param) else ""
                if not shared or shared not in owned:
                    group.create_dataset(str(index), data=np.asarray(array, np.float32))
                    owned.add(shared)


def _check_names(path: str | Path, names: Sequence[str]) -> None:
    fix = "write a binary .caffemodel, which holds any name"
    with Problems(WeightsError, path) as problems:
        for name, times in Counter(names).items():
            parts = name.split("/")
            above = {"/".join(parts[:i]) for i, part in enumerate(parts) if i and part.isdecimal()}
            place = {"layer": printable(name), "fix": fix}
            if not all(parts) or "." in parts or "\0" in name:
                problems.add("HDF5 cannot hold this name as a path", **place)
            elif clash := above.intersection(names):
                problems.add(f"as a path it looks like a blob of the layer '{clash.pop()}'", **place)
            elif times > 1:
                problems.add(f"{times} layers have this name", **place)
