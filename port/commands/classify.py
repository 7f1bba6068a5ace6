"""python -m port classify: the classes of photographs, as Caffe's classify.py or its C++ example finds them."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from prototxt_gen.base import command
from prototxt_gen.base.errors import Problems, UsageError
from prototxt_gen.base.files import atomic_write, same_file, unwritable

from .options import add_device, add_net, numbers

EXAMPLES = """  python -m port classify --prototxt deploy.prototxt --caffemodel net.caffemodel \\
      --mean 104,117,123 --labels synset_words.txt photo.jpg
  python -m port classify --prototxt deploy.prototxt --caffemodel net.caffemodel \\
      --mean ilsvrc_2012_mean.npy --oversample --top 3 --json photos"""


def add(verbs: Any) -> None:
    """Add the command and its arguments."""
    parser = verbs.add_parser(
        "classify",
        help="name what is on photographs",
        description="Classify image files by pycaffe's rules (caffe.Classifier, classify.py): each is resized to "
        "--image-dims, cropped, brought to the net's order and range, and its best classes are printed.",
    )
    parser.set_defaults(run=run, quiet=True)
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image files, and folders of them")
    add_net(parser)
    parser.add_argument("--blob", metavar="NAME", help="the scores (default: the first output by name)")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="names, one a line; synset_words.txt")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="how many classes are printed (default: 5)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write all scores too, as .npy (images, classes)")
    parser.add_argument("--batch", type=int, default=10, metavar="N", help="crops computed at once (default: 10)")
    add_device(parser)
    way = parser.add_argument_group("preparation")
    way.add_argument("--mean", metavar="FILE|B,G,R", help="numbers, or a .binaryproto or .npy of which channels' means")
    way.add_argument("--oversample", action="store_true", help="average ten crops, as classify.py does by default")
    way.add_argument("--like", choices=["pycaffe", "cpp"], default="pycaffe", help=_LIKE)
    # None: to tell what was given from what was not
    way.add_argument("--image-dims", type=numbers(int, 2, "256,256"), metavar="H,W", help="default: 256,256")
    way.add_argument("--raw-scale", type=float, metavar="X", help="what 0..1 is multiplied by first (default: 255)")
    way.add_argument("--input-scale", type=float, metavar="X", help="what is multiplied by last (default: nothing)")
    way.add_argument(
        "--channel-swap", type=numbers(int, 3, "2,1,0"), metavar="2,1,0", help="default: 2,1,0, RGB to BGR"
    )


_LIKE = (
    "pycaffe (default), or cpp: as Caffe's C++ example, which resizes the whole image by OpenCV to the input's size "
    "and subtracts channels' means"
)


def run(args: argparse.Namespace) -> int:
    """Classify, and print a table or JSON."""
    import numpy as np

    from ..images import find_images
    from ..net import load_net
    from ..predicting.classifier import Classifier, best
    from ..predicting.labels import read_labels
    from ..predicting.part import only_input
    from ..scoring.engines import choose_device

    _check(args)
    images = find_images(args.images)
    net = load_net(args.prototxt, args.caffemodel, dialect=args.dialect)
    preparation = _preparation(args, only_input(net)[1][1])
    options = {"blob": args.blob, "batch": args.batch, "device": choose_device(args.device)}
    classifier = Classifier(net, preparation, **options)
    names = read_labels(args.labels, classifier.classes) if args.labels else [""] * classifier.classes
    if args.mean is None:
        print("note: no --mean: nothing is subtracted", file=sys.stderr)
    found, rows = [], []
    for paths, scores in _watched(classifier, images):
        for path, row in zip(paths, scores, strict=True):
            top = [{"class": i, "score": float(row[i]), "label": names[i]} for i in best(row, args.top)]
            rows.append(row)
            found.append({"image": str(path), "top": top})
            if not args.json:
                print("\n".join(_lines(found[-1])), flush=True)
    if args.json:
        print(json.dumps(found, indent=1))
    if args.output:
        with atomic_write(args.output) as file:
            np.save(file, np.stack(rows))
    return command.OK


def _check(args: argparse.Namespace) -> None:
    """Raise UsageError for numbers that make no sense, and an output that cannot be written."""
    with Problems(UsageError) as problems:
        for name in ("top", "batch"):
            if getattr(args, name) < 1:
                problems.add(f"--{name} {getattr(args, name)}", expected="1 or more")
        if args.output:
            read = [args.prototxt, *args.images, *([args.labels] if args.labels else [])]
            if args.output.suffix != ".npy" or any(same_file(path, args.output) for path in read):
                problems.add(f"--output {args.output}", expected="a file of its own whose name ends in .npy")
            problems.found += unwritable(args.output, "choose another --output")


def _preparation(args: argparse.Namespace, channels: int) -> Any:
    """What the options say; raises UsageError for those that the C++ example has not."""
    from ..predicting.classifier import Preparation
    from ..predicting.means import read_means

    given = {
        name: getattr(args, name)
        for name in ("image_dims", "raw_scale", "input_scale", "channel_swap")
        if getattr(args, name) is not None
    }
    cpp = args.like == "cpp"
    if cpp and given:
        options = ", ".join("--" + name.replace("_", "-") for name in given)
        raise UsageError(f"{options} with --like cpp; expected --mean alone, which is all that the C++ example has")
    mean = None if args.mean is None else read_means(args.mean, channels)
    return Preparation(mean=mean, oversample=args.oversample, cpp=cpp, **given)


def _watched(classifier: Any, images: list[Path]) -> Any:
    """The classifier's blocks, with a bar on a terminal."""
    from tqdm import tqdm

    with tqdm(total=len(images), unit="image", disable=None if len(images) > 1 else True) as bar:
        for paths, scores in classifier.blocks(images):
            bar.update(len(paths))
            yield paths, scores


def _lines(found: dict[str, Any]) -> list[str]:
    """An image's classes as a table."""
    from prototxt_gen.base.columns import columns

    rows = [[f"  {each['score']:.5f}", str(each["class"]), each["label"]] for each in found["top"]]
    return [found["image"], *columns(rows, right=(0, 1))]
