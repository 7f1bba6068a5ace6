"""Trains a net as Caffe's program does: data, tests, snapshots, records, signals; `python -m port train`.

from port.training import Options, train

train("solver.prototxt", Options(weights=["resnet.caffemodel"], workers=2))
"""

from .options import Options, PlateauOptions
from .run import train
from .speed import Speed

__all__ = ["Options", "PlateauOptions", "Speed", "train"]
