"""From a data layer's definition to its batches."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from prototxt_gen.base.errors import DataError, Problem
from prototxt_gen.schema.habits import Habits, habits

from ..graph.state import phase_name
from ..layers import REGISTRY, Misfit, Shape, show
from ..layers.foreign import refused_fields
from ..layers.making import check_count
from .database import DATA, Database
from .hdf5 import Hdf5Reader
from .lists import read_list, read_words
from .order import Draws, FilesOrder, Order, OwnShareOrder, Share
from .paths import Root, find, located
from .readers import ArrayReader, DatumReader, ImageReader, VideoReader
from .source import DataSource, Plan
from .transform import Transformer

LARGEST_SEED = 2**63


@dataclass(frozen=True)
class _Opening:
    """What all types of data layers are opened with."""

    message: Any
    phase: str
    dialect: str
    root: Root
    draws: Draws
    rank: int
    world: int
    arrays: Sequence[Any] | None

    def transformer(self) -> Transformer:
        return Transformer(self.message.transform_param, self.phase, self.root)

    @property
    def habits(self) -> Habits:
        return habits(self.dialect)

    def share(self, batch: int, *, in_blocks: bool = False, by_item: bool = False) -> Share:
        """This rank's part of the data: in what ways a layer's type could be dealt out, its Caffe decides."""
        if self.habits.deals_blocks:
            rule = "blocks" if in_blocks else "all"
        else:
            rule = "items" if by_item and self.phase == "TRAIN" else "all"
        return Share(batch, rule, self.rank, self.world)

    def plan(self, reader: Any, order: Order) -> Plan:
        return Plan(reader, order, order.draws, self.message.name, tuple(self.message.top), order.share.batch)

    def listed(self, reader: Any, param: Any, rand_skip: int = 0) -> Plan:
        """The plan of a layer that reads a list: shuffled from the start, where ranks draw apart by each for itself."""
        if rand_skip > len(reader):
            found = f"{rand_skip}, and the list has {len(reader)} entries"
            raise DataError(Problem(found, "no more than the list has", field="rand_skip", file=reader.source))
        share = self.share(_batch_size(param), in_blocks=True)
        draws = replace(self.draws, rank=self.rank if self.habits.ranks_draw_apart else 0)
        order = Order(len(reader), share, draws, shuffle=param.shuffle, rand_skip=rand_skip)
        return self.plan(reader, order)


def open_data(
    message: Any,
    phase: str = "TEST",
    dialect: str = "bvlc",
    *,
    root: Root = ".",
    seed: int | np.random.Generator = 0,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    arrays: Sequence[Any] | None = None,
    stream: str | None = None,
) -> DataSource:
    """The batches of a data layer (LayerParameter of a net in the current format); semantics 5.

    Types: Data (LMDB), ImageData, HDF5Data, VideoData, MemoryData (`arrays`: items (N, C, H, W) and labels).
    `root`: the folder, or folders in order, that paths are relative to. `seed` decides all that is random;
    layers draw independently, unless the same `stream` name is given to them. `rank` of `world` processes reads
    its share by the dialect's rule. Raises DataError (WeightsError for a mean file) with the way out.
    """
    # A layer's own phase goes before the net's.
    phase = phase_name(message.phase) if message.HasField("phase") else phase
    if isinstance(seed, np.random.Generator):
        seed = int(seed.integers(LARGEST_SEED))
    if seed < 0 or not 0 <= rank < world or workers < 0:
        found = f"seed {seed}, rank {rank} of {world}, {workers} workers"
        raise DataError(Problem(found, "none below 0, and rank below world", layer=message.name))
    draws = Draws(seed, message.name if stream is None else stream)
    with located(layer=message.name):
        opener = _opener(message)
        _refuse_foreign(message, dialect)
        plan = opener(_Opening(message, phase, dialect, root, draws, rank, world, arrays))
    return DataSource(plan, workers)


def data_shapes(message: Any, phase: str, dialect: str, root: Root) -> tuple[Shape, ...] | None:
    """The shapes of a data layer's tops as its data gives them; None where the data is not there.

    Raises DataError when it is there but cannot be used.
    """
    param = next((getattr(message, p) for p in REGISTRY[message.type].param[:1] if message.HasField(p)), None)
    source = getattr(param, "source", "")
    if not source or not os.path.exists(find(source, root)):
        return None
    return tuple(open_data(message, phase, dialect, root=root).shapes().values())


def _opener(message: Any) -> Callable[[_Opening], Plan]:
    """The function that opens a type; raises DataError for a type that none opens, and for wrong tops."""
    if message.type not in _OPENERS:
        found = f"the layer type {message.type} reads no data here"
        if message.type == "DummyData":
            raise DataError(Problem("DummyData reads no data", fix="the layer makes its tops itself: run the net"))
        fix = "use one of " + ", ".join(_OPENERS)
        if message.type == "WindowData":
            fix += "; for WindowData, cut the windows out once and list them for ImageData"
        raise DataError(Problem(found, fix=fix, field="type"))
    try:
        check_count("top", len(message.top), REGISTRY[message.type].top_count)
    except Misfit as misfit:
        raise DataError(Problem(**misfit.parts)) from None
    return _OPENERS[message.type]


def _refuse_foreign(message: Any, dialect: str) -> None:
    """Raise DataError for fields of forks that would change the data, all at once."""
    own = [message.transform_param, *(getattr(message, name) for name in REGISTRY[message.type].param)]
    refused = dict.fromkeys(entry for block in own for entry in refused_fields(block, dialect))
    if refused:
        raise DataError(
            Problem(f"the field is {', '.join(e.forks)}'s, changes the data, and is not supported", field=e.name)
            for e in refused
        )


def _batch_size(param: Any) -> int:
    if not param.batch_size:
        raise DataError(Problem("there is no batch_size", "1 or more", field="batch_size"))
    return param.batch_size


def _source(param: Any) -> str:
    if not param.source:
        raise DataError(Problem("there is no source", "the path of the data", field="source"))
    return param.source


def _open_database(opening: _Opening) -> Plan:
    param, transform = opening.message.data_param, opening.message.transform_param
    path = find(_source(param), opening.root)
    if param.backend != param.LMDB:
        found = "the backend is LEVELDB" + ("" if param.HasField("backend") else ", Caffe's default")
        fix = "convert it to LMDB, or create one with `python -m port lmdb create`, and set backend: LMDB"
        if os.path.exists(path / DATA):
            fix = "the folder holds an LMDB: set backend: LMDB"
        raise DataError(Problem(found, "LMDB", fix, file=path, field="backend"))
    transformer = opening.transformer()
    color = cv2.IMREAD_GRAYSCALE if transform.force_gray else cv2.IMREAD_UNCHANGED
    reader = DatumReader(Database(path), transformer, cv2.IMREAD_COLOR if transform.force_color else color)
    share = opening.share(_batch_size(param), in_blocks=True, by_item=True)
    if not opening.habits.data_skips_and_shuffles:
        return opening.plan(reader, Order(len(reader), share, opening.draws))
    kind = OwnShareOrder if param.shuffle else Order
    order = kind(len(reader), share, opening.draws, rand_skip=param.rand_skip)
    if isinstance(order, OwnShareOrder) and not len(order.own):
        found = f"{len(reader)} records leave none to rank {opening.rank} of {opening.world}"
        fix = "a smaller batch_size, or fewer processes"
        raise DataError(Problem(found, "one record or more for each", fix, file=path, field="shuffle"))
    return opening.plan(reader, order)


def _open_images(opening: _Opening) -> Plan:
    param = opening.message.image_data_param
    size = _resized(param)
    transformer = opening.transformer()
    path = find(_source(param), opening.root)
    spaced = not opening.habits.lists_split_at_all_white_space
    entries = read_list(path, opening.root, param.root_folder, spaced=spaced)
    color = cv2.IMREAD_COLOR if param.is_color else cv2.IMREAD_GRAYSCALE
    return opening.listed(ImageReader(path, entries, transformer, color, size), param, param.rand_skip)


def _open_videos(opening: _Opening) -> Plan:
    param = opening.message.video_data_param
    _resized(param)
    if param.encoded:
        raise DataError(Problem("encoded videos are not supported", fix="list folders of frames", field="encoded"))
    if not param.new_length or not param.num_segments:
        found = f"new_length {param.new_length}, num_segments {param.num_segments}"
        raise DataError(Problem(found, "1 or more of each", field="video_data_param"))
    transformer = opening.transformer()
    path = find(_source(param), opening.root)
    entries = read_list(path, opening.root, spaced=False, numbers=2, files=False)
    # The fork's VideoData never reads rand_skip.
    return opening.listed(VideoReader(path, entries, transformer, param, opening.phase == "TRAIN"), param)


def _resized(param: Any) -> tuple[int, int]:
    size = (param.new_height, param.new_width)
    if any(size) and not all(size):
        found = f"new_height {size[0]}, new_width {size[1]}"
        raise DataError(Problem(found, "both, or neither", field="new_height"))
    return size


def _open_hdf5(opening: _Opening) -> Plan:
    message, param = opening.message, opening.message.hdf5_data_param
    if message.HasField("transform_param"):
        raise DataError(Problem("HDF5Data transforms nothing", fix="delete the field", field="transform_param"))
    path = find(_source(param), opening.root)
    share = opening.share(_batch_size(param), by_item=True)
    reader = Hdf5Reader(path, read_words(path, opening.root), message.top, integers=opening.habits.hdf5_takes_integers)
    order = FilesOrder(len(reader), share, opening.draws, shuffle=param.shuffle, sizes=reader.sizes)
    return opening.plan(reader, order)


def _open_memory(opening: _Opening) -> Plan:
    param = opening.message.memory_data_param
    size = (param.channels, param.height, param.width)
    if not all(size) or not param.batch_size:
        found = f"batch_size {param.batch_size}, channels, height, width {show(size)}"
        raise DataError(Problem(found, "all above 0", field="memory_data_param"))
    if opening.arrays is None or len(opening.arrays) != 2:
        fix = "give them: open_data(..., arrays=(data, labels))"
        raise DataError(Problem("MemoryData without arrays", "items (N, C, H, W) and labels (N,)", fix))
    data, labels = (np.asarray(array) for array in opening.arrays)
    if data.ndim != 4 or not len(data) or labels.size != len(data) or len(data) % param.batch_size:
        found = f"data {show(data.shape)} and labels {show(labels.shape)}"
        expected = f"(N, C, H, W) and (N,), N a multiple of batch_size {param.batch_size}"
        raise DataError(Problem(found, expected, field="arrays"))
    if data.dtype != np.uint8:
        data = data.astype(np.float32)
    reader = ArrayReader(data, labels.reshape(-1), opening.transformer())
    result = reader.read(0, np.random.default_rng(0))[0].shape
    if result != size:
        found = f"items of {show(result)}" + (" after the crop" if reader.transformer.crop else "")
        raise DataError(Problem(found, f"{show(size)}, as memory_data_param says", field="arrays"))
    order = Order(len(reader), opening.share(param.batch_size), opening.draws)
    return opening.plan(reader, order)


_OPENERS: dict[str, Callable[[_Opening], Plan]] = {
    "Data": _open_database,
    "ImageData": _open_images,
    "HDF5Data": _open_hdf5,
    "MemoryData": _open_memory,
    "VideoData": _open_videos,
}
