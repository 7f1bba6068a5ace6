"""NUS-WIDE: its image lists, and a label file for each of 81 concepts and each split."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from port.data.lists import shorten
from prototxt_gen.base.errors import CaffeError, DataError, Problem, Problems
from prototxt_gen.base.files import read_text
from prototxt_gen.paper import DATASETS

from ..index import restricted
from ..reading import check_unique, folder_problem, image_path, locate, require, restrict
from ..split import Loaded, Request, Source, Split

_CONCEPTS = """
airport animal beach bear birds boats book bridge buildings cars castle cat cityscape clouds computer coral cow dancing
dog earthquake elk fire fish flags flowers food fox frost garden glacier grass harbor horses house lake leaf map
military moon mountain nighttime ocean person plane plants police protest railroad rainbow reflection road rocks running
sand sign sky snow soccer sports statue street sun sunset surf swimmers tattoo temple tiger tower town toy train tree
valley vehicle water waterfall wedding whales window zebra
"""
CONCEPTS = tuple(_CONCEPTS.split())
NAMES = {"train": "Train", "test": "Test"}
PAGE = "https://lms.comp.nus.edu.sg/research/NUS-WIDE.htm"
LABELS = ("Groundtruth/TrainTestLabels", "TrainTestLabels")
IMAGES = ("Flickr", "images", "Images", "image")


def load(request: Request) -> Loaded:
    """Read NUS-WIDE: images in the order of its lists, labels 0 and 1 in alphabetical order of the 81 concepts.

    Paths such as actor\\0001_2124494179.jpg get "/" and are below `image_root` (default: Flickr/ or images/ in
    the folder of the data set). The test split may be restricted to the index of accessible images. Raises
    DataError naming all that is missing or wrong.
    """
    folder_problem(request.root)
    lists = {
        split: locate(request.root, [f"ImageList/{NAMES[split]}Imagelist.txt", f"{NAMES[split]}Imagelist.txt"])
        for split in request.splits
    }
    folder = locate(request.root, LABELS)
    annotations = {
        split: [lists[split], *(folder / f"Labels_{concept}_{NAMES[split]}.txt" for concept in CONCEPTS)]
        for split in request.splits
    }
    origin = f"ImageList.zip and Groundtruth.zip of {PAGE}"
    require([file for files in annotations.values() for file in files], origin)
    _check_concepts(request.root, folder)
    image_root = request.image_root or locate(request.root, [*IMAGES, ""])
    if not image_root.is_dir():
        image_root = request.root
    splits, options = {}, {}
    for name, (listing, *labels) in annotations.items():
        split = _read(name, listing, labels)
        if name == "test" and request.accessible:
            split, options[name] = restricted(split, request.accessible)
        splits[name] = restrict(split, request.subset, image_root, f"NUS-WIDE's images (Flickr) of {PAGE}")
    return Loaded(SOURCE, CONCEPTS, splits, image_root, annotations, options=options, selected=frozenset(options))


def _check_concepts(root: Path, folder: Path) -> None:
    """That the folder has these 81 concepts and no other, and the data set's own list, where it is, the same order."""
    known = {f"Labels_{concept}_{split}.txt" for concept in CONCEPTS for split in NAMES.values()}
    with Problems(DataError) as problems:
        for file in sorted(folder.glob("Labels_*.txt")):
            if file.name not in known:
                problems.add("this is none of the 81 concepts", file=file, fix="move it out of the folder")
        listing = locate(root, ["ConceptsList/Concepts81.txt", "Concepts81.txt"])
        if listing.is_file():
            names = tuple(read_text(listing, DataError).split())
            if names != CONCEPTS:
                odd = sorted(set(names) ^ set(CONCEPTS))
                found = f"{len(names)} concepts" + (f", other ones: {', '.join(odd)}" if odd else ", in another order")
                problems.add(found, expected="the 81 of NUS-WIDE in alphabetical order", file=listing)


def _read(name: str, listing: Path, labels: list[Path]) -> Split:
    """A split from its list and label files; raises DataError with the problems of all of them."""
    problems: list[Problem] = []
    images: list[str] = []
    columns = []
    lengths: dict[int, list[Path]] = {}
    try:
        images = _images(listing)
    except CaffeError as error:
        problems += error.problems
    for file in labels:
        try:
            lines = _lines(file)
            lengths.setdefault(len(lines), []).append(file)
            columns.append(_column(file, lines))
        except CaffeError as error:
            problems += error.problems
    if images:  # else the list could not be read, and any length will do
        problems += _other_lengths(lengths, len(images), listing)
    if problems:
        raise DataError(problems)
    return Split(name, images, np.stack(columns, axis=1))


def _other_lengths(lengths: dict[int, list[Path]], count: int, listing: Path) -> Iterator[Problem]:
    """A problem for each label file that has not a line per image, one for all when all have the same other number."""
    expected = f"{count:,}, one per image of {listing}"
    for length, files in lengths.items():
        if length != count and len(files) == len(CONCEPTS):
            found = f"all {len(files)} label files have {length:,} lines"
            yield Problem(found, expected, "is the list another one, or was it changed?", file=files[0].parent)
        elif length != count:
            yield from (Problem(f"{length:,} lines", expected, file=file) for file in files)


def _lines(file: Path) -> list[str]:
    lines = read_text(file, DataError).rstrip().splitlines()
    if not lines:
        raise DataError(Problem("the file is empty", "one line per image", file=file))
    return lines


def _images(file: Path) -> list[str]:
    images = []
    with Problems(DataError, file) as problems:
        for number, line in enumerate(_lines(file), start=1):
            images.append(image_path(line))
            if not images[-1]:
                problems.add(f"'{line[:80]}'", line=number, expected=r"a path such as actor\0001_2124494179.jpg")
        check_unique([image for image in images if image], problems, "the image")
        shorten(problems)
    return images


def _column(file: Path, lines: list[str]) -> NDArray[Any]:
    """The labels of one concept, (images,), from the lines of its file."""
    with Problems(DataError, file) as problems:
        for number, line in enumerate(lines, start=1):
            if line.strip() not in ("0", "1"):
                problems.add(f"'{line[:80]}'", line=number, expected="0 or 1")
        shorten(problems)
    return np.array([line.strip() == "1" for line in lines], np.int8)


SOURCE = Source(
    load=load,
    classes=CONCEPTS,
    facts=DATASETS["nus_wide"],
    has_index=True,
)
