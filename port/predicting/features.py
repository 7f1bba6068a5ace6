"""Blobs of a net for many images, a row an image: a run of `port.scoring` with other rows and another file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from prototxt_gen.base.errors import NetError, Problem, Problems, UsageError
from prototxt_gen.base.files import atomic_write
from prototxt_gen.base.machine import cores

from ..scoring.engines import TorchEngine, choose_device
from ..scoring.options import Options
from ..scoring.run import Run, begin
from .means import read_means
from .part import part_of

SUFFIXES = (".npy", ".h5", ".hdf5")
IMAGES = "images"  # the dataset of their names


@dataclass(frozen=True)
class FeatureOptions(Options):
    """Options of `features`; `blob` may be several, as a comma list. See `python -m port features --help`."""

    resize: str = "pycaffe"
    mean: Any = (0.0, 0.0, 0.0)  # in the blob's order; numbers or a file as text
    scale: float = 1.0

    @property
    def blobs(self) -> list[str]:
        """The blobs that are asked for."""
        return (self.blob or "").split(",")


def features(options: FeatureOptions) -> int:
    """Write blobs of many images as options say; returns the number of the signal that ended the run early, or 0.

    The output is .npy, images x the blob's own axes, float32, of one blob; or HDF5, a dataset of that form for each
    blob, and the images' paths as dataset `images`. It appears when it is complete; until then a journal lies beside
    it, from which the same call goes on. Raises CaffeError with everything that is wrong.
    """
    _check(options)
    if isinstance(options.mean, str):
        options = replace(options, mean=tuple(map(float, read_means(options.mean, 3))))
    return begin(options, make_engine, FeatureRun)


def _check(options: FeatureOptions) -> None:
    """Raise UsageError for blobs that do not go together, or not with the file."""
    blobs, suffix = options.blobs, options.output.suffix
    with Problems(UsageError) as problems:
        if suffix not in SUFFIXES:
            problems.add(f"--output {options.output}", expected=f"a name ending in {' or '.join(SUFFIXES)}")
        if not all(blobs) or len(set(blobs)) < len(blobs):
            problems.add(f"--blob {options.blob}", expected="names of blobs, each once, as in fc7 or pool5,fc7")
        if len(blobs) > 1 and suffix == ".npy":
            problems.add(f"{len(blobs)} blobs in a .npy", expected="one", fix="use an --output ending in .h5")
        if not np.isfinite(options.scale) or not options.scale:
            problems.add(f"--scale {options.scale}", expected="a factor other than 0")
        for blob in blobs if suffix != ".npy" else []:
            if blob == IMAGES or any(other.startswith(f"{blob}/") for other in blobs) or blob.startswith(f"{IMAGES}/"):
                found = f"the blob '{blob}' has the name of a group or of the dataset '{IMAGES}' in HDF5"
                problems.add(found, fix="write it to a .npy")


def make_engine(options: Options, local_rank: int = 0, local_world: int = 1) -> tuple[FeatureEngine, list[str]]:
    """The engine that options ask for, and what there is to say about its net."""
    from ..net import load_net

    assert options.prototxt and isinstance(options, FeatureOptions)
    device = choose_device(options.device, local_rank)
    lanes = options.threads or (max(1, cores() // local_world) if device == "cpu" else None)
    net = load_net(options.prototxt, options.caffemodel, dialect=options.dialect)
    notes = [f"{options.prototxt}: dialect {net.caffe.dialect} ({net.caffe.reason})", str(net.report)]
    engine = FeatureEngine(net, device, options.blob, lanes)
    engine.facts |= {"rows": "blobs", "scale": f"{options.scale:.9g}"}
    return engine, [*notes, f"PyTorch on {device}"]


class FeatureEngine(TorchEngine):
    """A net of `port.load_net` of which blobs are computed, all values of an image in one row."""

    shapes: dict[str, tuple[int, ...]]  # of one image, by blob

    def __init__(self, net: Any, device: str, blob: str | None = None, lanes: int | None = None):
        super().__init__(net, device, blob, lanes)
        self._part, self._name = part_of(self.net, list(self.shapes)), net.input_names[self.input]

    def outputs(self, net: Any, blob: str | None) -> tuple[str, int]:
        from ..onnx.export import free_axes

        names = (blob or "").split(",")
        part_of(net, names)  # names all that are unknown
        free, values = free_axes(net.caffe), net.caffe.blobs()
        items = next(v.shape[0] for v in net.caffe.inputs)
        with Problems(NetError, net.caffe.file) as problems:
            for name in names:
                value = values[name]
                shape = value.shape or ()
                varies = free.get(value.name, ()) == (0,) if free else True
                if not shape or not varies or shape[0] != items or 0 in shape:
                    problems.add(f"the blob '{name}' of shape {shape} has no row for each image")
        self.shapes = {name: tuple(values[name].shape[1:]) for name in names}
        return ",".join(names), sum(map(prod, self.shapes.values()))

    def _scores(self, images: torch.Tensor) -> torch.Tensor:
        found = self._part(**{self._name: images})
        for blob, value in found.items():
            if len(value) != len(images):
                raise NetError(
                    Problem(f"the blob '{blob}' has {len(value)} rows", f"{len(images)}, one for each image")
                )
        return torch.cat([found[blob].reshape(len(images), -1) for blob in self.shapes], 1)


@dataclass
class FeatureRun(Run):
    """A run that writes blobs."""

    compares: ClassVar[bool] = False

    def loader(self) -> Any:
        load, options = super().loader(), self.options
        assert isinstance(options, FeatureOptions)
        factor = np.float32(options.scale)
        return load if factor == 1 else lambda path: load(path) * factor

    def write(self, rows: NDArray[np.float32], images: list[Path]) -> str:
        output, shapes = self.options.output, self.engine.shapes
        ends = np.cumsum([prod(shape) for shape in shapes.values()])[:-1]
        parts = np.split(rows, ends, axis=1)
        arrays = {blob: part.reshape(-1, *shapes[blob]) for blob, part in zip(shapes, parts, strict=True)}
        write_arrays(output, arrays, images)
        said = ", ".join(f"'{blob}' {'x'.join(map(str, array.shape))}" for blob, array in arrays.items())
        return f"wrote {output}: {said}"


def write_arrays(output: Path, arrays: dict[str, NDArray[np.float32]], images: Sequence[Path]) -> None:
    """Write a .npy of the only array, or HDF5 of all with the images' paths, at once or not at all."""
    if output.suffix == ".npy":
        (array,) = arrays.values()
        with atomic_write(output) as file:
            np.save(file, np.ascontiguousarray(array))
        return
    import h5py

    with atomic_write(output, "w+b") as file, h5py.File(file, "w") as root:
        for blob, array in arrays.items():
            root.create_dataset(blob, data=array)
        root.create_dataset(IMAGES, data=[str(image) for image in images], dtype=h5py.string_dtype())
