"""The commands of `python -m port`: each module adds its arguments with `add` and carries them out with `run`.

What a command needs is imported when it runs, so that --help answers at once.
"""

from . import classify, convert, detect, export, features, inspect, lmdb, score, train, upgrade

COMMANDS = (inspect, upgrade, convert, export, lmdb, train, score, classify, detect, features)

__all__ = ["COMMANDS"]
