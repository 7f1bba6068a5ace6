"""MS-COCO 2014: instances_train2014.json and instances_val2014.json -> labels of 80 categories."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from port.data.lists import shorten
from prototxt_gen.base.errors import DataError, Problem, Problems, UsageError
from prototxt_gen.paper import DATASETS

from ..reading import check_unique, folder_problem, image_path, locate, read_json, require, restrict, rows_of, whole
from ..split import Loaded, Request, Source, Split

_CATEGORIES = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign,
parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, handbag,
tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard,
tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot,
hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop, mouse, remote,
keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear,
hair drier, toothbrush
"""
CATEGORIES = tuple(" ".join(_CATEGORIES.split()).split(", "))  # in the order of the category ids
YEAR_SPLITS = {"train": "train2014", "test": "val2014"}
ANNOTATIONS = "annotations_trainval2014.zip of https://cocodataset.org/#download"
FOLDERS = ("annotations/", "", "annotations_trainval2014/annotations/")


def load(request: Request) -> Loaded:
    """Read MS-COCO: images in order of their ids, labels 0 and 1 in order of the category ids, crowds included.

    Image paths are train2014/COCO_train2014_000000000009.jpg, below `image_root` (default: the folder of the
    data set, or images/ in it). Raises UsageError without pycocotools, DataError naming all that is missing or
    wrong in the annotations.
    """
    tool = _pycocotools()
    folder_problem(request.root)
    files = {
        split: locate(request.root, [f"{folder}instances_{YEAR_SPLITS[split]}.json" for folder in FOLDERS])
        for split in request.splits
    }
    require(files.values(), ANNOTATIONS)
    image_root = request.image_root or _image_root(request.root)
    splits: dict[str, Split] = {}
    categories: list[tuple[int, str]] = []
    for name, file in files.items():
        annotations = _indexed(tool, file)
        found = [(number, annotations.cats[number]["name"]) for number in sorted(annotations.cats)]
        if categories and found != categories:
            first = next(iter(files.values()))
            raise DataError(Problem("other categories", f"those of {first}", "take both of one release", file=file))
        categories = found
        split = _split(annotations, name, [number for number, _ in categories])
        origin = f"{YEAR_SPLITS[name]}.zip of https://cocodataset.org/#download"
        splits[name] = restrict(split, request.subset, image_root, origin)
    names = [name for _, name in categories]
    return Loaded(SOURCE, names, splits, image_root, {name: [file] for name, file in files.items()})


def _pycocotools() -> Any:
    try:
        from pycocotools.coco import COCO
    except ImportError as cause:
        found = f"MS-COCO's annotations are read with pycocotools, which cannot be imported ({cause})"
        raise UsageError(Problem(found, fix="install the extra: pip install 'caffe-srn[coco]'")) from None
    return COCO


def _image_root(root: Path) -> Path:
    inner = root / "images"
    there = [(inner / folder).is_dir() for folder in YEAR_SPLITS.values()]
    return inner if any(there) else root


def _indexed(tool: Any, file: Path) -> Any:
    """A checked annotation file in pycocotools' index."""
    data = read_json(file)
    _check(data, file)
    index = tool()
    index.dataset = data
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        index.createIndex()
    return index


def _check(data: Any, file: Path) -> None:
    """Raise DataError with all that would make pycocotools fail, or silently lose something."""
    categories, images = rows_of(data, "categories", file), rows_of(data, "images", file)
    annotations = rows_of(data, "annotations", file)
    with Problems(DataError, file) as problems:
        known = _ids(categories, "categories", "name", problems)
        there = _ids(images, "images", "file_name", problems)
        for place, row in enumerate(annotations):
            if not isinstance(row, dict) or not all(whole(row.get(key)) for key in ("id", "image_id", "category_id")):
                expected = "integers 'id', 'image_id' and 'category_id'"
                problems.add(f"annotations[{place}] is {_short(row)}", expected=expected)
            elif row["category_id"] not in known:
                found = f"annotations[{place}] has the category {row['category_id']}"
                problems.add(found, expected=f"one of the {len(known)} under 'categories'")
            elif row["image_id"] not in there:
                problems.add(f"annotations[{place}] is of image {row['image_id']}", expected="one under 'images'")
        shorten(problems, "problems")


def _ids(rows: Sequence[Any], key: str, text: str, problems: Problems) -> set[int]:
    """The ids of categories or images; adds what is wrong with them."""
    good = []
    for place, row in enumerate(rows):
        named = isinstance(row, dict) and whole(row.get("id")) and isinstance(row.get(text), str)
        if not named or not (image_path(row[text]) if key == "images" else row[text].strip()):
            expected = f"an integer 'id' and a text '{text}'" + (", a relative path" if key == "images" else "")
            problems.add(f"{key}[{place}] is {_short(row)}", expected=expected)
        else:
            good.append(row)
    check_unique([str(row["id"]) for row in good], problems, f"the id of {key}")
    check_unique([row[text] for row in good], problems, f"the {text} of {key}")
    return {row["id"] for row in good}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _split(index: Any, name: str, categories: Sequence[int]) -> Split:
    columns = {number: column for column, number in enumerate(categories)}
    order = sorted(index.getImgIds())
    labels = np.zeros((len(order), len(columns)), np.int8)
    crowds = np.zeros_like(labels)
    for row, image in enumerate(order):
        for annotation in index.imgToAnns.get(image, ()):
            crowd = bool(annotation.get("iscrowd"))
            (crowds if crowd else labels)[row, columns[annotation["category_id"]]] = 1
    only = int(((crowds == 1) & (labels == 0)).sum())
    images = [f"{YEAR_SPLITS[name]}/{image_path(index.imgs[image]['file_name'])}" for image in order]
    note = f"{only:,} labels come from crowd regions (iscrowd) alone; they count"
    return Split(name, images, labels | crowds, (note,))


SOURCE = Source(
    load=load,
    classes=CATEGORIES,
    facts=DATASETS["coco"],
)
