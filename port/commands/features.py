"""python -m port features: any blobs of a net for many images, a row an image."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from prototxt_gen.base import command

from .options import add_device, add_net

EXAMPLES = """  python -m port features --prototxt deploy.prototxt --caffemodel net.caffemodel \\
      --blob fc7 --mean 104,117,123 --output fc7.npy photos
  python -m port features --prototxt deploy.prototxt --caffemodel net.caffemodel --blob pool5,fc7 \\
      --mean ilsvrc_2012_mean.npy --image-list val.txt --image-root val2014 --output blobs.h5"""


def add(verbs: Any) -> None:
    """Add the command and its arguments."""
    parser = verbs.add_parser(
        "features",
        help="write blobs of a net for many images",
        description="Write any blobs of a net for image files, one row an image, as .npy or HDF5. A run that ended "
        "early, however it did, goes on where it was when the same command is given again.",
    )
    parser.set_defaults(run=run, quiet=True)
    add_net(parser)
    parser.add_argument("--blob", required=True, metavar="NAME,...", help="the blobs to write")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE", help=".npy for one blob, .h5 for any")
    images = parser.add_argument_group("images")
    images.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help="image files, and folders of them")
    images.add_argument("--image-list", type=Path, metavar="FILE", help="one image per line: path and a number")
    images.add_argument("--image-root", type=Path, metavar="DIR", help="where the list's paths begin")
    images.add_argument("--mean", metavar="FILE|B,G,R", help="numbers, or a .binaryproto or .npy of channels' means")
    images.add_argument("--scale", type=float, default=1.0, metavar="X", help="factor after the mean (default: 1)")
    images.add_argument("--resize", default="pycaffe", metavar="WAY", help="as of `port score` (default: pycaffe)")
    images.add_argument("--allow-unreadable", action="store_true", help="leave out what cannot be read, and list it")
    work = parser.add_argument_group("work")
    work.add_argument("--restart", action="store_true", help="drop what an interrupted run of this output computed")
    add_device(work)  # type: ignore[arg-type]
    work.add_argument("--batch", type=int, metavar="N", help="images per batch (default: 48)")
    work.add_argument("--threads", type=int, metavar="N", help="batches computed at once (default: one per core)")
    work.add_argument("--workers", type=int, metavar="N", help="more threads that read images ahead (default: 1)")


def run(args: argparse.Namespace) -> int:
    """Write the blobs; exit status 0, or 128 plus the number of the signal that ended it."""
    from ..predicting.features import FeatureOptions, features

    taken = {name: value for name, value in vars(args).items() if name not in ("run", "layers", "quiet")}
    if taken["mean"] is None:
        print("note: no --mean: nothing is subtracted", file=sys.stderr)
        del taken["mean"]
    signal = features(FeatureOptions(**taken))
    return command.SIGNALLED + signal if signal else command.OK
