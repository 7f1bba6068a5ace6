"""From images to a scores file, as the authors' test program does it; `python -m port score`.

from port.scoring import Options, compute_scores, score

net = dict(prototxt=Path("net.prototxt"), caffemodel="net.caffemodel")
score(Options(output=Path("scores.txt"), images=[Path("photos")], **net))      # journal, resuming, torchrun
scores = compute_scores(net, ["a.jpg", "b.jpg"])      # float32 (images, classes), nothing written

The names below load torch when they are first used: to write or read a scores file takes none.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .compute import compute_scores
    from .engines import image_input, score_output
    from .files import write_scores
    from .options import BATCH, Options
    from .run import score

_HOMES = {
    "BATCH": "options",
    "Options": "options",
    "compute_scores": "compute",
    "image_input": "engines",
    "score": "run",
    "score_output": "engines",
    "write_scores": "files",
}

__all__ = ["BATCH", "Options", "compute_scores", "image_input", "score", "score_output", "write_scores"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module 'port.scoring' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
