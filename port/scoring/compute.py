"""The scores of a list of images in one process, without a journal; and engines from files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from prototxt_gen.base.errors import DataError, Problem, UsageError
from prototxt_gen.base.machine import cores, free_memory

from ..images import AUTHORS, MEAN, load_image
from .batches import Pipeline, cut
from .engines import Engine, OnnxEngine, TorchEngine, choose_device, choose_onnx_device
from .options import BATCH, Options


def compute_scores(
    net: Any,
    images: Sequence[str | Path],
    *,
    batch: int = BATCH,
    device: str | None = None,
    blob: str | None = None,
    resize: str = AUTHORS,
    mean: Sequence[float] = MEAN,
) -> NDArray[np.float32]:
    """The logits (images, classes) of image files from `port.load_net`'s net; `blob`, or the first output by name.

    Runs on the GPU when there is one and `device` does not say otherwise. The last batch is filled up with
    zeros and the surplus rows are dropped. Raises DataError for an unreadable image, NetError for a net with
    other inputs, UsageError for a device that is not there.
    """
    engine = TorchEngine(net, choose_device(device), blob)
    paths = [Path(image) for image in images]
    size = batch_size(engine, batch, len(paths))
    fit_lanes(engine, size, free_memory())
    batches = cut(paths, size)
    scores = np.empty((len(paths), engine.classes), np.float32)
    workers = default_workers(engine)
    progress = tqdm(total=len(paths), unit="image", disable=None)
    with progress, Pipeline(engine, batches, size, loader(engine, mean, resize), workers) as pipeline:
        while pipeline.left:
            for scored in pipeline.finished(1.0):
                start = batches[scored.index].start
                if scored.holes:
                    raise DataError(
                        Problem(why, "an image file", file=paths[start + row]) for row, why in scored.holes.items()
                    )
                scores[start : start + len(scored.scores)] = scored.scores
                progress.update(len(scored.scores))
    return scores


def loader(engine: Engine, mean: Sequence[float], resize: str) -> Callable[[Path], Any]:
    """What reads an image for an engine."""
    return partial(load_image, height=engine.height, width=engine.width, mean=tuple(mean), resize=resize)


def default_workers(engine: Engine) -> int:
    """Threads that read ahead: where the cores compute, one is enough; a GPU takes what all cores read."""
    return 1 if engine.facts["device"].startswith("cpu") else cores()


def batch_size(engine: Engine, wanted: int | None, images: int) -> int:
    """Rows in every batch: as wanted but no more than there are images, or what the net fixes it to."""
    if engine.batch is not None:
        if wanted not in (None, engine.batch):
            found = f"--batch {wanted}, and the net computes batches of {engine.batch} only"
            raise UsageError(Problem(found, fix=f"leave it out, or use --batch {engine.batch}"))
        return engine.batch
    return max(1, min(wanted or BATCH, images))


def fit_lanes(engine: Engine, size: int, free: int | None, sharers: int = 1) -> None:
    """Have an engine compute no more batches at once than its part of half of the free memory (bytes) holds.

    `sharers`: processes that share it. The scores stay the same.
    """
    need = engine.footprint * size
    if need and free is not None and engine.facts["device"].startswith("cpu"):
        engine.lanes = max(1, min(engine.lanes, free // 2 // sharers // need))


def make_engine(options: Options, local_rank: int = 0, local_world: int = 1) -> tuple[Engine, list[str]]:
    """The engine that options ask for, and what there is to say about its net.

    Raises ParseError, NetError, WeightsError, ExportError or UsageError.
    """
    onnxruntime = options.onnx or options.runtime == "onnxruntime"
    device = (choose_onnx_device if onnxruntime else choose_device)(options.device, local_rank)
    lanes = options.threads or (max(1, cores() // local_world) if device == "cpu" else None)
    if options.onnx:
        if not options.onnx.is_file():
            raise UsageError(Problem("there is no such file", fix="check the path", file=options.onnx))
        return OnnxEngine(options.onnx, device, options.blob, lanes), [f"{options.onnx}: ONNX Runtime on {device}"]
    from ..net import load_net

    assert options.prototxt
    net = load_net(options.prototxt, options.caffemodel, dialect=options.dialect)
    notes = [f"{options.prototxt}: dialect {net.caffe.dialect} ({net.caffe.reason})", str(net.report)]
    if onnxruntime:
        from ..onnx.export import build_onnx, checked_bytes

        model = checked_bytes(build_onnx(net), options.prototxt)
        return OnnxEngine(model, device, options.blob, lanes, options.prototxt), [*notes, f"ONNX Runtime on {device}"]
    return TorchEngine(net, device, options.blob, lanes), [*notes, f"PyTorch on {device}"]
