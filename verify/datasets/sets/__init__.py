"""The data sets, a module each: how it is read, and its `SOURCE`; a module more is a data set more."""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from ..split import Source


@cache
def sources() -> dict[str, Source]:
    """All data sets, by the name that the command takes."""
    modules = (import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__))
    return {module.SOURCE.name: module.SOURCE for module in modules}
