"""What the tests of `port score` share: a tiny net, made-up scenes, and runs that end in every way."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
from small_nets import conv, fully, inputs, layer, made_once
from training_runs import ended, forked

import port
from port.__main__ import main
from port.scoring.journal import Journal, encode
from prototxt_gen.base import command
from reference_weights.shapes import render, scene

IMAGES, BATCH, CLASSES = 41, 4, 5
BATCHES = 11  # the last holds one image
HEIGHT, WIDTH = 40, 44


@cache
def tiny_net() -> Path:
    """A net of two layers with its weights beside it: nine 5x5 filters, five scores, and the filters' maxima."""
    folder = made_once("scoring")
    net = inputs(data=(2, 3, HEIGHT, WIDTH)) + conv("c", "data", "c", 9, 5) + layer("r", "TanH", "c", "t")
    net += layer("p", "Pooling", "t", "means", "pooling_param { pool: AVE global_pooling: true }")
    net += layer("m", "Pooling", "t", "z_other", "pooling_param { pool: MAX global_pooling: true }")
    net += fully("scores", "means", "scores", CLASSES)
    path = folder / "tiny.prototxt"
    path.write_text(net)
    port.save_caffemodel(port.load_net(path, seed=3), path.with_suffix(".caffemodel"))
    return path


@cache
def scenes(count: int = IMAGES) -> Path:
    """A folder with a list of scenes, JPEGs of many sizes, some smaller than the net's input."""
    folder = made_once("scenes")
    (folder / "val").mkdir()
    for i in range(count):
        cv2.imwrite(str(folder / "val" / f"{i:04}.jpg"), render(scene(5, i), 32 + 3 * (i % 29)))
    (folder / "list.txt").write_text("".join(f"val/{i:04}.jpg {i % 4}\n" for i in range(count)))
    return folder


def words(output: Path, *more: object, root: Path | None = None, net: Path | None = None) -> list[str]:
    """The command line of a run."""
    root, net = root or scenes(), net or tiny_net()
    weights = net.with_suffix(".caffemodel")
    given = ["--prototxt", net, "--caffemodel", weights, "--image-list", root / "list.txt", "--image-root", root]
    return list(map(str, ["score", *given, "--output", output, "--batch", BATCH, "--device", "cpu", *more]))


def score(output: Path, *more: object, **parts: Path) -> int:
    """A run in this process; returns its exit status."""
    return command.run(main, words(output, *more, **parts))


def child(log: Path, arguments: list[str], before: Callable[[], None] | None = None, **environment: object) -> int:
    """Start a run in a process of its own, after `before`; returns its id."""

    def begin() -> int:
        os.environ.update({name: str(value) for name, value in environment.items()})
        with open(log, "w", buffering=1) as file:
            sys.stdout = sys.stderr = file
            if before is not None:
                before()
            return command.run(main, arguments)

    return forked(begin)


def dying(records: int, torn: bool = False) -> Callable[[], None]:
    """Has a run kill itself once it has written so many batches; `torn`: in the middle of the next one."""

    def before() -> None:
        add, seen = Journal.add, [0]

        def counting(journal, scored):
            if seen[0] == records:
                if torn:
                    journal._file.write(encode(scored)[:-7])
                    journal._file.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            seen[0] += 1
            add(journal, scored)

        Journal.add = counting  # type: ignore[method-assign]

    return before


__all__ = [
    "BATCH",
    "BATCHES",
    "CLASSES",
    "HEIGHT",
    "IMAGES",
    "WIDTH",
    "child",
    "dying",
    "ended",
    "scenes",
    "score",
    "tiny_net",
    "words",
]
