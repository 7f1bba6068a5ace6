"""The commands of `python -m prototxt_gen`: `add` adds a module's arguments, `run` carries them out."""

from . import audit, describe, diff, listing, write

COMMANDS = (write, listing, describe, diff, audit)

__all__ = ["COMMANDS"]
