"""The scores of many images from one net, computed as the authors' test program does."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from port.images import load_image
from prototxt_gen.errors import NetError, UsageError

BATCH = 48
_LOADERS = min(4, os.cpu_count() or 1)


def image_input(net: Any) -> tuple[str, int, int]:
    """The image blob of a net with its height and width; raises NetError when there is not exactly one."""
    inputs = {value.blob: value.shape for value in net.caffe.inputs}
    if len(inputs) == 1:
        blob, shape = next(iter(inputs.items()))
        if shape is not None and len(shape) == 4 and shape[1] == 3:
            return blob, shape[2], shape[3]
    found = ", ".join(f"'{blob}' {shape}" for blob, shape in inputs.items()) or "none"
    raise NetError(f"the inputs of the net are {found}; expected one, of shape (N, 3, height, width)")


def score_output(net: Any) -> tuple[str, int]:
    """The blob that holds the scores, the first output by name, and the number of its classes."""
    outputs = net.caffe.outputs
    if not outputs or outputs[0].shape is None:
        raise NetError("the net has no output of known shape to take scores from")
    return outputs[0].blob, prod(outputs[0].shape[1:])


def compute_scores(
    net: Any, images: Sequence[str | Path], *, batch: int = BATCH, device: str | None = None
) -> NDArray[np.float32]:
    """The logits (images, classes) of image files from `port.load_net`'s net; the first output by name.

    Runs on the GPU when there is one and `device` does not say otherwise. The last batch is filled up with
    zeros and the surplus rows are dropped. Raises DataError for an unreadable image, NetError for a net with
    other inputs, UsageError for a device that is not there.
    """
    blob, height, width = image_input(net)
    output, classes = score_output(net)
    place = _device(device)
    net = net.to(place).eval()
    scores = np.empty((len(images), classes), np.float32)
    exact = torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False)
    progress = tqdm(total=len(images), unit="image", disable=None)
    with torch.inference_mode(), exact, progress:
        done = 0
        for block in _batches(images, min(batch, len(images)), height, width):
            result = net(**{blob: torch.from_numpy(block).to(place)})[output]
            count = min(len(block), len(images) - done)
            scores[done : done + count] = result.reshape(len(block), -1)[:count].cpu().numpy()
            done += count
            progress.update(count)
    return scores


def _batches(images: Sequence[str | Path], batch: int, height: int, width: int) -> Iterator[NDArray[np.float32]]:
    """Blocks (batch, 3, height, width) in order; a few are loaded ahead while the net computes."""

    def load(start: int) -> NDArray[np.float32]:
        block = np.zeros((batch, 3, height, width), np.float32)
        for row, path in zip(block, images[start : start + batch], strict=False):
            row[:] = load_image(path, height, width)
        return block

    ahead: deque[Future[NDArray[np.float32]]] = deque()
    with ThreadPoolExecutor(_LOADERS) as pool:
        try:
            for start in range(0, len(images), batch):
                ahead.append(pool.submit(load, start))
                if len(ahead) > _LOADERS:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as cause:
        raise UsageError(f"the device '{name}' cannot be used: {str(cause).splitlines()[0]}") from None
    return device
