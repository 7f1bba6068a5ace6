"""python -m port detect: what a detector (SSD, YOLO) finds on photographs."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

from prototxt_gen.base import command
from prototxt_gen.base.errors import DataError, Problems, UsageError

from .options import add_device, add_net, numbers

EXAMPLES = """  python -m port detect --prototxt deploy.prototxt --caffemodel ssd.caffemodel \\
      --mean 104,117,123 --labels labelmap_voc.prototxt --draw drawn photo.jpg
  python -m port detect --prototxt deploy.prototxt --caffemodel yolo.caffemodel \\
      --mean 127.5 --scale 0.007843 --threshold 0.3 --json photos"""


def add(verbs: Any) -> None:
    """Add the command and its arguments."""
    parser = verbs.add_parser(
        "detect",
        help="find things on photographs",
        description="Print what a net with a layer that makes detections (DetectionOutput, YOLO's) finds on image "
        "files: label, score and box in the image's pixels.",
    )
    parser.set_defaults(run=run, quiet=True)
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image files, and folders of them")
    add_net(parser)
    parser.add_argument("--blob", metavar="NAME", help="the detections, where several layers make some")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="names: one a line, or SSD's label map")
    parser.add_argument("--threshold", type=float, default=0.5, metavar="X", help="least score (default: 0.5)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--draw", type=Path, metavar="FOLDER", help="write the images there with their boxes, as PNG")
    add_device(parser)
    way = parser.add_argument_group("preparation")
    way.add_argument("--mean", metavar="FILE|B,G,R", help="numbers, or a .binaryproto or .npy of which channels' means")
    way.add_argument("--scale", type=float, default=1.0, metavar="X", help="factor after the mean (default: 1)")
    way.add_argument("--resize", default="opencv", metavar="WAY", help="as of `port score` (default: opencv)")
    way.add_argument(
        "--channel-swap", type=numbers(int, 3, "2,1,0"), default=(2, 1, 0), metavar="2,1,0", help="default: RGB to BGR"
    )


def run(args: argparse.Namespace) -> int:
    """Detect, print a table or JSON, and draw."""
    from ..images import find_images
    from ..net import load_net
    from ..predicting.detector import Detector
    from ..predicting.drawing import picture_paths
    from ..predicting.labels import read_label_map
    from ..scoring.engines import choose_device

    _check(args)
    images = find_images(args.images)
    pictures = picture_paths(images, args.draw) if args.draw else []
    net = load_net(args.prototxt, args.caffemodel, dialect=args.dialect)
    detector = Detector(net, _preparation(args), blob=args.blob, device=choose_device(args.device))
    names: dict[int, str] = {}
    if args.labels:
        names = read_label_map(args.labels, *(detector.labels or (None, 0)))
    if args.mean is None:
        print("note: no --mean: nothing is subtracted", file=sys.stderr)
    found = _found(args, detector, images, pictures, names)
    print(json.dumps(found, indent=1) if args.json else "\n".join(_table(found, args.threshold)))
    if pictures:
        print(f"{len(pictures)} pictures are in {args.draw}", file=sys.stderr)
    return command.OK


def _check(args: argparse.Namespace) -> None:
    """Raise UsageError with all options that make no sense."""
    from ..images.resize import WAYS

    with Problems(UsageError) as problems:
        if args.resize not in WAYS:
            problems.add(f"--resize {args.resize}", expected=", ".join(WAYS))
        if sorted(args.channel_swap) != [0, 1, 2]:
            problems.add(f"--channel-swap {','.join(map(str, args.channel_swap))}", expected="0, 1, 2 in some order")
        if math.isnan(args.threshold):
            problems.add("--threshold nan", expected="a score")
        if not (math.isfinite(args.scale) and args.scale):
            problems.add(f"--scale {args.scale}", expected="a factor other than 0")


def _preparation(args: argparse.Namespace) -> Any:
    from ..predicting.detector import Preparation
    from ..predicting.means import read_means

    mean = None if args.mean is None else read_means(args.mean, 3)
    return Preparation(mean, args.scale, args.resize, args.channel_swap)


def _found(
    args: argparse.Namespace, detector: Any, images: list[Path], pictures: list[Path], names: dict[int, str]
) -> list[dict[str, Any]]:
    """What is on each image, with a bar on a terminal; raises DataError with all unreadable images at the end."""
    from tqdm import tqdm

    from ..images import read_pixels
    from ..predicting.drawing import write_picture

    result = []
    with Problems(DataError) as problems:
        for item, path in enumerate(tqdm(images, unit="image", disable=None if len(images) > 1 else True)):
            try:
                pixels = read_pixels(path)
                found = detector.of_pixels(pixels, args.threshold, path)
            except DataError as error:
                problems.found += error.problems
                continue
            if pictures:
                write_picture(pictures[item], pixels, found, names)
            boxes = [{"label": f.label, "name": names.get(f.label, ""), "score": f.score, "box": f.box} for f in found]
            sizes = {"height": pixels.shape[0], "width": pixels.shape[1]}
            result.append({"item": item, "image": str(path), **sizes, "detections": boxes})
    return result


def _table(found: list[dict[str, Any]], threshold: float) -> list[str]:
    """All detections as a table."""
    from prototxt_gen.base.columns import columns

    rows = [["item", "label", "name", "score", "xmin", "ymin", "xmax", "ymax", "image"]]
    for image in found:
        for each in image["detections"]:
            places = [f"{place:.1f}" for place in each["box"]]
            score = f"{each['score']:.4f}"
            rows.append([str(image["item"]), str(each["label"]), each["name"], score, *places, image["image"]])
    nothing = [f"nothing from {threshold:g} on: {image['image']}" for image in found if not image["detections"]]
    return [*(columns(rows, right=(0, 1, 3, 4, 5, 6, 7)) if len(rows) > 1 else []), *nothing]
