"""The data sets, a module each: how it is read, and its `SOURCE`; a module more is a data set more."""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from ..split import Source


def names() -> list[str]:
    """The names that the command takes, those of the modules; nothing is imported for them."""
    return [module.name for module in iter_modules(__path__)]


@cache
def sources() -> dict[str, Source]:
    """All data sets by name."""
    return {name: import_module(f"{__name__}.{name}").SOURCE for name in names()}
