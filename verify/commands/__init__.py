"""The commands of `python -m verify`: each module adds its arguments with `add` and carries them out with `run`.

What a command needs is imported when it runs, so that --help answers at once.
"""

from . import audit, data, dataset, golden, net, onnx, solver

COMMANDS = (golden, data, solver, net, onnx, dataset, audit)

__all__ = ["COMMANDS"]
