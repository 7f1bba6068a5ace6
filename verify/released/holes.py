"""Gaps in weights: zeros in a row, as a download or a disk leaves them where a block was lost."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from port.module import CaffeNet
from port.net import params

ROW = 128  # zeros in a row, a block of 512 bytes; trained weights are hardly ever 0 at all


def holes(net: CaffeNet) -> Iterator[str]:
    """The weights that hold zeros in a row among other values, in words."""
    for layer, blobs in params(net).items():
        specs = net.caffe.node(layer).specs
        for number, (spec, blob) in enumerate(zip(specs, blobs, strict=True)):
            values = blob.detach().cpu().numpy().reshape(-1)
            longest = _longest(values == 0) if spec.name == "weight" and values.any() else 0
            if longest >= ROW:
                blob_name = f"layer '{layer}', blob {number} ({spec.name})"
                yield f"{blob_name}: {longest:,} of {values.size:,} values, in a row, are 0"


def _longest(zero: NDArray[np.bool_]) -> int:
    """The length of the longest run of True."""
    ends = np.flatnonzero(np.diff(np.concatenate([[False], zero, [False]]).astype(np.int8)))
    return int((ends[1::2] - ends[::2]).max(initial=0))
