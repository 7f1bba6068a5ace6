"""Small made-up data sets in the layouts of MS-COCO, NUS-WIDE and WIDER-Attribute, and a way to run the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from prototxt_gen.base.command import run
from verify.__main__ import main
from verify.datasets.sets.nus_wide import CONCEPTS


def dataset(capsys, *arguments) -> tuple[int, str, str]:
    """python -m verify dataset ARGUMENTS -> exit status, stdout, stderr; never a traceback."""
    try:
        status = run(main, ["dataset", *map(str, arguments)])
    except SystemExit as stop:  # argparse
        status = stop.code or 0
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return status, out, err


def picture(path: Path, width: int, height: int) -> None:
    """An image file in which every pixel tells its place: red the column, green the row, in steps of 5."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([columns * 5 % 256, rows * 5 % 256, np.full_like(rows, 7)], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(path)


# -- MS-COCO: 7 categories whose ids have gaps, 5 training and 3 test images ---------------------------------------
CATEGORIES = [
    (90, "toothbrush"),
    (1, "person"),
    (3, "car"),
    (13, "stop sign"),
    (2, "bicycle"),
    (27, "bag"),
    (44, "cup"),
]
COCO = {
    "train": {"ids": [581, 9, 30, 25, 71], "of": [(9, 1), (9, 1), (9, 90), (581, 13), (30, 44), (30, 2), (30, 1)]},
    "test": {"ids": [42, 400, 136], "of": [(400, 27), (136, 3), (136, 90)]},
}


def coco_data(split: str) -> dict:
    """The annotations of a split; the second car of image 71 is a crowd."""
    year = {"train": "train2014", "test": "val2014"}[split]
    images = [
        {"id": n, "file_name": f"COCO_{year}_{n:012d}.jpg", "width": 13, "height": 11} for n in COCO[split]["ids"]
    ]
    annotations = [
        {"id": 100 + place, "image_id": image, "category_id": category, "iscrowd": 0, "area": 5.5, "bbox": [1, 2, 3, 4]}
        for place, (image, category) in enumerate(COCO[split]["of"])
    ]
    if split == "train":
        annotations.append({**annotations[0], "id": 99, "image_id": 71, "category_id": 3, "iscrowd": 1})
    categories = [{"id": number, "name": name, "supercategory": "thing"} for number, name in CATEGORIES]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def coco(root: Path, change=None) -> Path:
    """MS-COCO below `root`; `change(data, split)` may damage the annotations."""
    for split in COCO:
        data = coco_data(split)
        for image in data["images"]:
            picture(root / image["file_name"].split("_")[1] / image["file_name"], 13, 11)
        if change:
            change(data, split)
        path = root / "annotations" / f"instances_{'train2014' if split == 'train' else 'val2014'}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data))
    return root


# -- NUS-WIDE: 81 concepts, 6 training and 5 test images ------------------------------------------------------------
NUS = {
    "Train": [
        r"actor\0001_11.jpg",
        r"zebra\0002_12.jpg",
        r"book\0009_3.jpg",
        r"book\0001_4.jpg",
        r"a\1.jpg",
        r"b\2.jpg",
    ],
    "Test": [r"zebra\0004_21.jpg", r"actor\0003_22.jpg", r"cat\0001_5.jpg", r"cat\0002_6.jpg", r"dog\7.jpg"],
}


def nus_labels(split: str) -> np.ndarray:
    """Labels (images, 81), no two columns alike in the two splits together; the last image has none."""
    labels = np.random.default_rng(len(split)).integers(0, 2, (len(NUS[split]), len(CONCEPTS)))
    labels[-1] = 0
    return labels


def nus_wide(root: Path, images: bool = True) -> Path:
    """NUS-WIDE below `root`, with Windows line ends in the lists, as its own have."""
    for split, names in NUS.items():
        (root / "ImageList").mkdir(parents=True, exist_ok=True)
        (root / "ImageList" / f"{split}Imagelist.txt").write_bytes("".join(f"{n}\r\n" for n in names).encode())
        folder = root / "Groundtruth" / "TrainTestLabels"
        folder.mkdir(parents=True, exist_ok=True)
        for concept, column in zip(CONCEPTS, nus_labels(split).T, strict=True):
            (folder / f"Labels_{concept}_{split}.txt").write_text("".join(f"{value}\n" for value in column))
        for name in names if images else ():
            picture(root / "Flickr" / name.replace("\\", "/"), 17, 12)
    return root


# -- WIDER-Attribute: 14 attributes; 4 training persons in 3 images, 3 test persons in 2 ----------------------------
def attributes(*positive: int, unspecified: tuple[int, ...] = ()) -> list[int]:
    return [1 if n in positive else 0 if n in unspecified else -1 for n in range(14)]


WIDER = {
    "trainval": [
        (
            "train/0--Parade/b.jpg",
            (31, 23),
            [([3.5, 4.4, 10.2, 7.3], attributes(0, 3)), ([-2.0, 5, 9, 30], attributes(1))],
        ),
        ("val/7--Cheering/a.jpg", (29, 37), [([10, 0, 25.0, 8], attributes(2, 5, 6, unspecified=(0, 13)))]),
        ("train/0--Parade/a.jpg", (19, 41), [([1, 2, 3, 4], attributes(unspecified=(4,)))]),
    ],
    "test": [
        ("test/1--Talk/c.jpg", (23, 21), [([0, 0, 23, 21], attributes(7)), ([2, 3, 5, 6], attributes(8, 9))]),
        ("test/1--Talk/d.jpg", (33, 22), [([4, 4, 6, 5], attributes(10, unspecified=(11, 12)))]),
    ],
}


def wider_data(part: str) -> dict:
    images = [
        {"file_name": name, "scene_id": 0, "targets": [{"bbox": list(box), "attribute": list(a)} for box, a in targets]}
        for name, _, targets in WIDER[part]
    ]
    return {"images": images, "attribute_id_map": {str(n): f"attribute{n}" for n in range(14)}, "scene_id_map": {}}


def wider(root: Path, change=None) -> Path:
    """WIDER-Attribute below `root`; `change(data, part)` may damage the annotations."""
    for part in WIDER:
        data = wider_data(part)
        for name, size, _ in WIDER[part]:
            picture(root / "Image" / name, *size)
        if change:
            change(data, part)
        (root / f"wider_attribute_{part}.json").write_text(json.dumps(data))
    return root


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder and its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
