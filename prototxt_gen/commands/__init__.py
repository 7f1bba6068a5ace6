"""The commands of `python -m prototxt_gen`: `add` adds a module's arguments, `run` carries them out."""

from . import diff, listing, moved, write

COMMANDS = (write, listing, diff, moved)

__all__ = ["COMMANDS"]
