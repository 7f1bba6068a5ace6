"""What `port score` can be told, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prototxt_gen.base.errors import DataError, Problem, Problems, UsageError
from prototxt_gen.base.files import same_file, unwritable

from ..images import AUTHORS, MEAN, find_images, read_image_list
from ..images.resize import check_resize
from ..weights.load import weight_files
from .files import left_out_path

BATCH = 48
RUNTIMES = ("torch", "onnxruntime")
_DEEPEST = 65535  # grey levels, of 16 bits


@dataclass(frozen=True)
class Options:
    """Options of `score`; see `python -m port score --help`."""

    output: Path
    prototxt: Path | None = None
    caffemodel: str | None = None  # several as a comma list
    onnx: Path | None = None
    image_list: Path | None = None
    image_root: Path | None = None
    images: Sequence[Path] = ()  # files and folders
    runtime: str | None = None  # torch, or onnxruntime for an ONNX file
    device: str | None = None
    batch: int | None = None
    workers: int | None = None
    threads: int | None = None
    blob: str | None = None
    resize: str = AUTHORS
    mean: tuple[float, ...] = MEAN
    dialect: str | None = None
    allow_unreadable: bool = False
    restart: bool = False


def check(options: Options) -> None:
    """Raise UsageError with all options that do not go together."""
    net, onnx = options.prototxt or options.caffemodel, options.onnx
    with Problems(UsageError) as problems:
        if bool(net) == bool(onnx):
            problems.add("both a Caffe net and --onnx" if onnx else "no net", expected="one net", fix=_NET)
        elif net and not (options.prototxt and options.caffemodel):
            problems.add("a Caffe net needs two files", expected="--prototxt and --caffemodel", fix=_NET)
        if onnx and options.runtime == "torch":
            problems.add("--runtime torch with --onnx", fix="leave it out, or give the Caffe net")
        if options.runtime is not None and options.runtime not in RUNTIMES:
            problems.add(f"--runtime {options.runtime}", expected=" or ".join(RUNTIMES))
        if bool(options.image_list) == bool(options.images):
            found = "both --image-list and images" if options.images else "no images"
            problems.add(found, expected="one of them", fix="give --image-list and --image-root, or files and folders")
        if (options.image_list is None) != (options.image_root is None):
            problems.add("--image-list and --image-root go together", expected="both, or neither")
        for name, least in (("batch", 1), ("workers", 1), ("threads", 1)):
            value = getattr(options, name)
            if value is not None and value < least:
                problems.add(f"--{name} {value}", expected=f"{least} or more")
        if len(options.mean) != 3:
            problems.add(f"--mean of {len(options.mean)} numbers", expected="3: blue, green, red")
        elif not all(abs(value) <= _DEEPEST for value in options.mean):  # NaN is not
            problems.add(f"--mean {', '.join(map(str, options.mean))}", expected="grey levels, as in 104,117,123")
        try:
            check_resize(options.resize)
        except UsageError as error:
            problems.found += error.problems
        problems.found += _unwritable(options)


_NET = "give --prototxt and --caffemodel, or --onnx"


def _unwritable(options: Options) -> list[Problem]:
    """What keeps the output from being written, found before hours are spent computing it."""
    output, fix = options.output, "choose another --output"
    if problems := unwritable(output, fix):
        return problems
    weights = weight_files(options.caffemodel) if options.caffemodel else []
    inputs = [options.prototxt, options.onnx, options.image_list, *weights, *options.images]
    written = (output, left_out_path(output))
    return [_lost(each) for each in written if any(path and same_file(path, each) for path in inputs)]


def _lost(path: Path) -> Problem:
    return Problem("is read by this run, and would be lost", "a file of its own", "choose another --output", file=path)


def read_images(options: Options) -> list[Path]:
    """The images to score, in order; with `allow_unreadable` they need not exist. Raises DataError, and UsageError
    where one of them is the output."""
    if options.image_list is None or options.image_root is None:
        images = find_images(options.images)
    else:
        images = read_image_list(options.image_list, options.image_root, must_exist=not options.allow_unreadable)
    if not images:
        raise DataError("there are no images to score")
    if options.output.exists() and any(same_file(image, options.output) for image in images):
        raise UsageError(_lost(options.output))
    return images
