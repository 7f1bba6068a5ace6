"""The implementations that a net is compared in, a module each with its `RUNTIME`; a module more is a column more."""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from .base import Arrays, Job, Runtime

__all__ = ["Arrays", "Job", "Runtime", "runtimes"]


@cache
def runtimes() -> dict[str, Runtime]:
    """All runtimes by name, in the order of a report's columns."""
    modules = (import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__) if module.name != "base")
    return {each.name: each for each in sorted((module.RUNTIME for module in modules), key=lambda each: each.place)}
