"""WIDER-Attribute: boxes of persons with 14 attributes each -> a crop and a row of labels for each person."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from port.data.lists import MOST_LISTED, shorten
from prototxt_gen.base.errors import DataError, Problem, Problems
from prototxt_gen.paper import DATASETS

from ..crops import RULE, image_size
from ..reading import (
    check_unique,
    folder_problem,
    image_path,
    locate,
    on_disk,
    read_json,
    require,
    require_images,
    rows_of,
)
from ..split import Crop, Loaded, Request, Source, Split

# Where the annotations have no 'attribute_id_map'.
_ATTRIBUTES = "Male longHair sunglass Hat Tshirt longSleeve formal shorts jeans longPants skirt faceMask logo stripe"
ATTRIBUTES = tuple(_ATTRIBUTES.split())
FILES = {"train": "wider_attribute_trainval.json", "test": "wider_attribute_test.json"}
FOLDERS = ("", "annotations/", "Annotations/", "Anno/", "wider_attribute_annotation/")
PAGE = "http://mmlab.ie.cuhk.edu.hk/projects/WIDERAttribute.html"
CROPS = "crops"  # below the output folder


@dataclass(frozen=True)
class Person:
    """One box of an image: (x, y, width, height) in pixels, its labels, and its place among the image's boxes."""

    image: str
    number: int
    box: tuple[float, float, float, float]
    labels: tuple[int, ...]


def load(request: Request) -> Loaded:
    """Read WIDER-Attribute: persons in the order of the annotations, labels 1, -1 and 0 (unspecified).

    The crop of box n (from 0) of train/0--Parade/a.jpg is train/0--Parade/a_n.jpg in crops/ of the output folder.
    Its edges are the box's, rounded to the nearest pixel (halves up) and clipped to the image. A box without a pixel
    has no crop and is left out. Raises DataError naming all that is missing or wrong.
    """
    folder_problem(request.root)
    files = {split: locate(request.root, [f"{folder}{FILES[split]}" for folder in FOLDERS]) for split in request.splits}
    require(files.values(), f"wider_attribute_annotation.zip of {PAGE}")
    sources = request.image_root or locate(request.root, ["Image", "images", "Images", ""])
    classes: list[str] = []
    splits, crops = {}, {}
    for name, file in files.items():
        data = read_json(file)
        found = _classes(data, file)
        if classes and found != classes:
            first = next(iter(files.values()))
            raise DataError(Problem("other attributes", f"those of {first}", "take both of one release", file=file))
        classes = found
        persons = _persons(data, len(classes), file)
        splits[name], crops[name] = _cropped(name, persons, sources, request)
    root = request.output / CROPS
    annotations = {name: [file] for name, file in files.items()}
    options = {name: {"crops": RULE} for name in files}
    return Loaded(SOURCE, classes, splits, root, annotations, crops, options)


def _classes(data: Any, file: Path) -> list[str]:
    """The attributes' names; the data set's own where the file has them."""
    names = data.get("attribute_id_map") if isinstance(data, dict) else None
    if names is None:
        return list(ATTRIBUTES)
    good = isinstance(names, dict) and all(key.isdecimal() and isinstance(names[key], str) for key in names)
    order = sorted(names, key=int) if good else []
    if not order or [int(key) - int(order[0]) for key in order] != list(range(len(order))):
        expected = "numbers without a gap, with a name each"
        raise DataError(Problem(f"'attribute_id_map' is {str(names)[:80]}", expected, file=file))
    return [names[key] for key in order]


def _persons(data: Any, classes: int, file: Path) -> list[Person]:
    """All persons of an annotation file in order; raises DataError with what is wrong with them."""
    persons = []
    seen: dict[str, int] = {}
    with Problems(DataError, file) as problems:
        for place, row in enumerate(rows_of(data, "images", file)):
            image = image_path(row.get("file_name")) if isinstance(row, dict) else ""
            targets = row.get("targets") if image else None
            if not isinstance(targets, list):
                problems.add(
                    f"images[{place}] is {str(row)[:80]}", expected="a relative 'file_name' and a list 'targets'"
                )
                continue
            if image in seen:
                problems.add(f"images[{place}] is '{image}', as images[{seen[image]}] is", expected="each image once")
            seen[image] = place
            for number, target in enumerate(targets):
                if wrong := _wrong(target, classes):
                    problems.add(f"images[{place}].targets[{number}] of '{image}': {wrong[0]}", expected=wrong[1])
                else:
                    persons.append(Person(image, number, tuple(target["bbox"]), tuple(target["attribute"])))
        if not persons and not problems.found:
            problems.add("no image has a person", expected="a box or more under 'targets'")
        shorten(problems, "problems")
    return persons


def _wrong(target: Any, classes: int) -> tuple[str, str] | None:
    """What is wrong with a person's entry, and what was expected."""
    box, labels = (target.get("bbox"), target.get("attribute")) if isinstance(target, dict) else (None, None)
    if not isinstance(box, list) or len(box) != 4 or not all(map(_finite, box)):
        return f"'bbox' is {str(box)[:60]}", "4 finite numbers: x, y, width, height"
    if not isinstance(labels, list) or len(labels) != classes:
        count = f"{len(labels)} values" if isinstance(labels, list) else str(labels)[:60]
        return f"'attribute' has {count}", f"{classes} values"
    if not all(isinstance(value, int) and value in (1, 0, -1) for value in labels):
        return f"'attribute' is {str(labels)[:60]}", "1, -1 or 0"
    return None


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def pixels(box: Sequence[float], size: tuple[int, int]) -> tuple[tuple[int, int, int, int], bool]:
    """The pixels (left, top, right, bottom) of a box (x, y, width, height) in an image (width, height).

    Edges are rounded to the nearest pixel, halves up, then clipped to the image; also whether they were clipped.
    A box without a pixel has right <= left or bottom <= top.
    """
    x, y, width, height = box
    edges = [math.floor(edge + 0.5) for edge in (x, y, x + width, y + height)]
    inside = [min(max(edge, 0), size[index % 2]) for index, edge in enumerate(edges)]
    return (inside[0], inside[1], inside[2], inside[3]), inside != edges


def _cropped(name: str, persons: list[Person], sources: Path, request: Request) -> tuple[Split, list[Crop]]:
    """The persons of a split that leave a pixel, and their crops."""
    images = list(dict.fromkeys(person.image for person in persons))
    there = on_disk(sources, images)
    origin = f"the images of {PAGE}"
    if request.subset == "all":
        require_images(sources, images, there, origin)
    sizes = _sizes(sources, [image for image, present in zip(images, there, strict=True) if present])
    kept, crops, dropped = [], [], []
    clipped = 0
    for person in persons:
        if person.image not in sizes:
            continue
        box, cut = pixels(person.box, sizes[person.image])
        stem = person.image.rpartition(".")[0] or person.image
        if box[2] <= box[0] or box[3] <= box[1]:
            width, height = sizes[person.image]
            dropped.append(f"{person.image}, box {person.number}: {list(person.box)} in {width}x{height}")
        elif request.subset != "tagged" or 1 in person.labels:
            clipped += cut
            kept.append(person)
            crops.append(Crop(sources / person.image, box, f"{stem}_{person.number}.jpg"))
    notes = _notes(len(persons), sum(p.image in sizes for p in persons), kept, clipped, dropped, request.subset)
    if not kept:
        fix = f"check --image-root; they are in {origin}"
        raise DataError(Problem(f"no person of split '{name}' is left", "one or more", fix, file=sources))
    names = [crop.name for crop in crops]
    with Problems(DataError, request.root) as problems:
        check_unique(names, problems, "the crop")
        shorten(problems, "crops")
    return Split(name, names, np.array([person.labels for person in kept], np.int8), tuple(notes)), crops


def _notes(total: int, present: int, kept: list[Person], clipped: int, dropped: list[str], subset: str) -> list[str]:
    notes = [f"{total:,} boxes; {clipped:,} reach beyond their image and are clipped"]
    if dropped:
        notes.append(f"{len(dropped):,} boxes have no pixel in their image and are left out:")
        notes += [f"  {line}" for line in dropped[:MOST_LISTED]]
        notes += [f"  and {len(dropped) - MOST_LISTED:,} more"] if len(dropped) > MOST_LISTED else []
    if subset != "all":
        notes.append(f"{total - present:,} boxes of images without a file are left out (--subset {subset})")
    if subset == "tagged":
        gone = present - len(dropped) - len(kept)
        notes.append(f"{gone:,} persons without a positive attribute are left out (--subset tagged)")
    return notes


def _sizes(root: Path, images: list[str]) -> dict[str, tuple[int, int]]:
    """Width and height of image files, from their headers; raises DataError naming all that have none."""

    def size(image: str) -> tuple[int, int] | DataError:
        try:
            return image_size(root / image)
        except DataError as error:
            return error

    with ThreadPoolExecutor() as pool, Problems(DataError, root) as problems:
        found = dict(zip(images, pool.map(size, images), strict=True))
        problems.found += [p for value in found.values() if isinstance(value, DataError) for p in value.problems]
        shorten(problems, "images")
    return {image: value for image, value in found.items() if not isinstance(value, DataError)}


SOURCE = Source(
    load=load,
    classes=ATTRIBUTES,
    facts=DATASETS["wider_att"],
    signed=True,
    crops=CROPS,
)
