"""Values of one HDF5 dataset, judged before HDF5's library takes them.

On chunks of another rank than the dataset's the library loops without end inside one call, where no interrupt
reaches it; and a file of a few bytes may claim terabytes, all of the fill value.
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

_LARGE = 1 << 30  # bytes that are taken unasked
_MOST = 1100  # times that Deflate, the strongest of HDF5's usual filters, makes data smaller at best: 1,032


def values(dataset: Any) -> np.ndarray:
    """All values of an h5py dataset, in its own shape and type; raises ValueError for one that is damaged."""
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"{dataset.name} is no dataset")
    chunks, shape = dataset.chunks, dataset.shape
    if chunks is not None and shape is not None and len(chunks) != len(shape):
        raise ValueError(f"{dataset.name}: chunks of {len(chunks)} axes in a dataset of {len(shape)}")
    if shape is not None and not (dataset.is_virtual or dataset.external):
        claimed, stored = dataset.size * dataset.dtype.itemsize, dataset.id.get_storage_size()
        if claimed > _LARGE and claimed > _MOST * stored:
            raise ValueError(f"{dataset.name}: {claimed:,} bytes of values, of which the file holds {stored:,}")
    return np.asarray(dataset[()])
