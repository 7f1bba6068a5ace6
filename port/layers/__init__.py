"""The meaning of every layer type: each module of this folder registers some, and none is named anywhere else."""

from importlib import import_module
from pkgutil import iter_modules

from prototxt_gen.base.door import open_offered
from prototxt_gen.schema.extension import extend_schema

from .base import KINDS, REGISTRY, RULES, BlobSpec, Context, Layer, Misfit, Shape, register, show
from .host import register_python
from .making import make_layer
from .user import UserLayer

__all__ = [
    "KINDS",
    "REGISTRY",
    "RULES",
    "BlobSpec",
    "Context",
    "Layer",
    "Misfit",
    "Shape",
    "UserLayer",
    "extend_schema",
    "make_layer",
    "register",
    "register_python",
    "show",
]

for _folder in ("", ".packs"):  # packs last: they may use names of types that the two Caffes have
    for _module in iter_modules(import_module(f"{__name__}{_folder}").__path__):
        import_module(f"{__name__}{_folder}.{_module.name}")
open_offered()  # what installed packages add
