"""python -m port score: the scores of many images, as the authors' test program writes them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from prototxt_gen.base import command
from prototxt_gen.base.door import add_layers

from .options import add_dialect

EXAMPLES = """  python -m port score --prototxt net.prototxt --caffemodel net.caffemodel \\
      --image-list val.txt --image-root val2014 --output scores.txt
  python -m port score --onnx net.onnx --output scores.txt photos
  torchrun --nproc-per-node 4 -m port score --prototxt net.prototxt --caffemodel net.caffemodel \\
      --image-list val.txt --image-root val2014 --output scores.txt"""


def add(verbs: Any) -> None:
    """Add the command and its arguments."""
    score = verbs.add_parser(
        "score",
        help="score images with a net, into a text file",
        description="Score images as the authors' test program does: one line per image, 6 decimals. A run that "
        "ended early, however it did, goes on where it was when the same command is given again.",
    )
    score.set_defaults(run=run, quiet=True)  # libraries have remarks on odd images; ours name the file
    net = score.add_argument_group("net")
    net.add_argument("--prototxt", type=Path, metavar="FILE")
    net.add_argument("--caffemodel", metavar="A,B", help="weights, binary or HDF5; later files over earlier")
    net.add_argument("--onnx", type=Path, metavar="FILE", help="an ONNX model instead")
    add_dialect(net)
    add_layers(net)
    net.add_argument("--blob", metavar="NAME", help="the output to write (default: the first by name)")
    images = score.add_argument_group("images")
    images.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help="image files, and folders of them")
    images.add_argument("--image-list", type=Path, metavar="FILE", help="one image per line: path and number of tags")
    images.add_argument("--image-root", type=Path, metavar="DIR", help="where the list's paths begin")
    images.add_argument("--resize", default="authors", metavar="WAY", help=_RESIZE)
    images.add_argument(
        "--mean", type=_mean, default=(104.0, 117.0, 123.0), metavar="B,G,R", help="default: 104,117,123"
    )
    images.add_argument(
        "--allow-unreadable", action="store_true", help="leave images out that cannot be read, and list them"
    )
    _add_work(score)


_RESIZE = (
    "authors (default: scikit-image in 2017), pycaffe (caffe.io), caffe (ImageData layer), antialias (scikit-image "
    "today), pil, opencv, opencv-area; another than the authors' prints what difference it makes"
)


def _add_work(score: argparse.ArgumentParser) -> None:
    work = score.add_argument_group("work")
    work.add_argument("--output", required=True, type=Path, metavar="FILE", help="the scores file")
    work.add_argument("--restart", action="store_true", help="drop what an interrupted run of this output computed")
    work.add_argument("--runtime", choices=["torch", "onnxruntime"], help="default: torch; onnxruntime with --onnx")
    work.add_argument("--device", metavar="cpu|cuda[:N]", help="default: cuda where PyTorch finds a GPU")
    work.add_argument("--batch", type=int, metavar="N", help="images per batch (default: 48)")
    work.add_argument(
        "--threads", type=int, metavar="N", help="batches computed at once (default: one per core, two on a GPU)"
    )
    work.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="more threads that read images ahead (default: 1, one per core with a GPU)",
    )


def run(args: argparse.Namespace) -> int:
    """Score; exit status 0, or 128 plus the number of the signal that ended it."""
    from ..scoring import Options, score

    taken = {name: value for name, value in vars(args).items() if name not in ("run", "layers", "quiet")}
    signal = score(Options(**taken))
    return command.SIGNALLED + signal if signal else command.OK


def _mean(text: str) -> tuple[float, ...]:
    try:
        values = tuple(map(float, text.split(",")))
    except ValueError:
        values = ()
    if len(values) != 3:
        raise argparse.ArgumentTypeError(f"'{text}': expected three numbers, blue, green and red, as in 104,117,123")
    return values
