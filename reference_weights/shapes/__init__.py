"""Pictures of made-up scenes with several labels, some of which only the places of things can tell.

scene(seed, index)                  # what a picture shows: things, labels, clutter
render(scene, 224)                  # its pixels
write_dataset("datasets/shapes", train=10_000, test=2_000)   # databases, files, lists

Drawn by code from numbers, without fonts, photographs or other people's work; the same pixels on every machine.
"""

from .classes import CLASSES, NAMES, Class, Relation, Thing, labels_of
from .dataset import Written, write_dataset
from .drawing import mask, render
from .scenes import Scene, scene

__all__ = [
    "CLASSES",
    "NAMES",
    "Class",
    "Relation",
    "Scene",
    "Thing",
    "Written",
    "labels_of",
    "mask",
    "render",
    "scene",
    "write_dataset",
]
