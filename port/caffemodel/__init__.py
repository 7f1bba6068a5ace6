"""Caffe's weights files: `.caffemodel` of both dialects and all formats, and mean files.

    with read_caffemodel("model.caffemodel") as model:
        for layer in model.layers:
            print(layer.name, layer.type, [blob.shape for blob in layer.blobs])

Values are views into the mapped file; nothing is copied until they are used.
"""

from .file import ModelFile
from .model import Blob, ModelLayer
from .reader import read_blob, read_caffemodel
from .state import SolverState, read_state, write_state
from .writer import write_caffemodel, write_net

__all__ = [
    "Blob",
    "ModelFile",
    "ModelLayer",
    "SolverState",
    "read_blob",
    "read_caffemodel",
    "read_state",
    "write_caffemodel",
    "write_net",
    "write_state",
]
