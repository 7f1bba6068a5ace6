"""Reading a data set, writing its lists, cutting its crops, and making its databases."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prototxt_gen.base.errors import DataError
from prototxt_gen.base.files import os_problem, write_text
from prototxt_gen.paper import Augmentation

from . import crops
from .record import VERSION, Record, sha256
from .sets import sources
from .split import Loaded, Request, Split


@dataclass(frozen=True)
class Databases:
    """How images are stored in databases: encoded ("jpg", "png") or as pixels (None); training images shuffled."""

    encoded: str | None = "jpg"
    shuffle: int = 0


def build(request: Request, databases: Databases | None = None) -> tuple[Loaded, list[Path]]:
    """Write lists, label files, crops and databases of a data set; what was read, and the paths that were written.

    Everything is read and checked first: nothing is written when the annotations or images are not in order.
    Files appear when they are complete; run again, crops and databases that are there are kept. Raises DataError
    and UsageError with all problems.
    """
    loaded = sources()[request.dataset].load(request)
    record = Record(request.output, loaded.key)
    texts = {name: _texts(request.output, loaded, split) for name, split in loaded.splits.items()}
    settings = {name: _settings(request, loaded, name) for name in loaded.splits}
    for name in loaded.splits:
        others = [request.output / loaded.source.crops] if loaded.crops and not record.splits else []
        others += _database_paths(request.output, loaded.key, name)
        record.check(name, settings[name], texts[name], others)
    written: list[Path] = []
    for name, split in loaded.splits.items():
        record.begin(name, settings[name])
        crops.cut(loaded.crops.get(name, []), loaded.image_root, request.progress)
        for path, text in texts[name].items():
            write_text(path, text)
        record.finish(name, _facts(split), list(texts[name]))
        written += texts[name]
        if databases:
            written += _write_databases(request, loaded, name, record, databases)
    return loaded, [*written, record.path]


def list_path(folder: Path, key: str, split: str, content: str) -> Path:
    """A file of the output folder, named as the authors name theirs: coco_test_imglist.txt, coco_test_label.txt."""
    return folder / f"{key}_{split}_{content}.txt"


def _texts(folder: Path, loaded: Loaded, split: Split) -> dict[Path, str]:
    """The text files of a split: images with their number of tags, labels, classes."""
    rows = zip(split.images, split.tags.tolist(), strict=True)
    texts = {
        list_path(folder, loaded.key, split.name, "imglist"): "".join(f"{name} {tags}\n" for name, tags in rows),
        list_path(folder, loaded.key, split.name, "label"): _matrix(split.labels),
    }
    if loaded.source.signed:
        texts[list_path(folder, loaded.key, split.name, "label_01")] = _matrix((split.labels == 1).astype(int))
    texts[folder / f"{loaded.key}_classes.txt"] = "".join(f"{name}\n" for name in loaded.classes)
    return texts


def _matrix(labels: Any) -> str:
    return "".join(" ".join(map(str, row)) + "\n" for row in labels.tolist())


def _settings(request: Request, loaded: Loaded, split: str) -> dict[str, Any]:
    """What the bytes of a split depend on."""
    return {
        "version": VERSION,
        "subset": request.subset,
        "annotations": {path.name: sha256(path) for path in loaded.annotations[split]},
        **loaded.options.get(split, {}),
    }


def _facts(split: Split) -> dict[str, Any]:
    images, classes = split.labels.shape
    mean = round(float(split.tags.mean()), 6)
    return {"images": images, "classes": classes, "labels_per_image": mean, "notes": list(split.notes)}


def _database_paths(folder: Path, key: str, split: str) -> list[Path]:
    return [folder / f"{key}_{split}_{content}_lmdb" for content in ("image", "label")]


def _write_databases(request: Request, loaded: Loaded, split: str, record: Record, databases: Databases) -> list[Path]:
    """The databases that the generated training nets read: images of 256x256, and labels 0 and 1."""
    from port.data import create

    paths = _database_paths(request.output, loaded.key, split)
    shuffle = databases.shuffle if split == "train" else None
    form = {"encoded": databases.encoded, "shuffle": shuffle}
    entry = record.splits[split]
    if record.databases(split) and entry.get("database_form") == form and all(path.is_dir() for path in paths):
        return paths
    entry["database_form"] = form
    record.made_databases(split, False)
    for path in paths:  # left by a call that ended early, or made in another form
        try:
            if path.exists():
                shutil.rmtree(path)
        except OSError as cause:
            raise DataError(os_problem(path, cause, "delete")) from None
    side = Augmentation().resized
    labels = "label_01" if loaded.source.signed else "label"
    create(
        list_path(request.output, loaded.key, split, "imglist"),
        loaded.image_root,
        paths[0],
        size=(side, side),
        labels=list_path(request.output, loaded.key, split, labels),
        label_output=paths[1],
        encoded=databases.encoded,
        shuffle=shuffle,
        progress=request.progress,
    )
    record.made_databases(split, True)
    return paths
