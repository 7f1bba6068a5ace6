"""A data set on disk as the paper's nets are trained and tested with: databases, image files, lists.

Test images are files, listed as the authors' programs want them; training images are in a database only. Both
splits have an image and a label database in the authors' layout.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from prototxt_gen.base.errors import DataError, Problem, Problems, UsageError
from prototxt_gen.base.files import os_problem, read_bytes, read_text, write_text

from .classes import NAMES
from .drawing import LARGEST, SMALLEST, render
from .scenes import LARGEST_SEED, scene

VERSION = 1  # another number, other pictures
NAME = "shapes"  # what the files' names begin with
TEST_INDEX = 1 << 24  # of the first test scene, so that the test set is the same for any training set
ENCODINGS = {"jpg": [cv2.IMWRITE_JPEG_QUALITY, 95], "png": []}
SPLITS = ("train", "test")
_CHUNK = 64  # images a process draws at a time


@dataclass(frozen=True)
class Settings:
    """What the bytes of a data set depend on. Sizes in pixels."""

    train: int
    test: int
    seed: int
    size: int
    train_size: int
    encoding: str
    version: int = VERSION

    def count(self, split: str) -> int:
        return self.train if split == "train" else self.test

    def pixels(self, split: str) -> int:
        return self.train_size if split == "train" else self.size

    def index(self, split: str, number: int) -> int:
        """Which scene of the seed an image shows."""
        return number + (TEST_INDEX if split == "test" else 0)


@dataclass(frozen=True)
class Written:
    """A complete data set: its folder, what its manifest says, and whether it had been there already."""

    folder: Path
    manifest: dict[str, Any]
    found: bool = False

    def path(self, split: str, content: str) -> Path:
        """A file or database: `content` is image_lmdb, label_lmdb, label.txt, or for "test" imglist.txt."""
        return self.folder / f"{NAME}_{split}_{content}"

    def __str__(self) -> str:
        state = "is complete, nothing was drawn" if self.found else "was written"
        lines = [f"{self.folder} {state}"]
        for split in SPLITS:
            entry = self.manifest["splits"][split]
            lines += [
                "",
                f"{split}: {entry['images']:,} images, images sha256 {entry['sha256']['images'][:16]}...",
            ]
            lines += describe(entry["statistics"])
        return "\n".join(lines)


def write_dataset(
    folder: str | Path,
    *,
    train: int = 10_000,
    test: int = 2_000,
    seed: int = 0,
    size: int = 224,
    train_size: int = 256,
    encoding: str = "jpg",
    workers: int = 1,
    progress: bool = False,
) -> Written:
    """Draw a data set into a folder: training images of `train_size` pixels in databases, test images of `size`.

    The bytes depend on the arguments alone, not on `workers`, the number of processes (for more than one a script
    needs Python's usual `if __name__ == "__main__":`). What is already drawn is kept: an interrupted call goes on
    where it was, a complete folder is only checked. The file shapes.json says so at the end, and holds the sha256
    of all lists and images. Raises UsageError for bad arguments or a folder with another data set in it, DataError
    when the disk refuses.
    """
    settings = Settings(train, test, seed, size, train_size, encoding)
    _check(settings, workers)
    folder = Path(folder)
    manifest = _opened(folder, settings)
    _sweep(folder)
    found = all(_complete(folder, manifest, split) for split in SPLITS)
    for split in SPLITS:
        if not _complete(folder, manifest, split):
            if manifest["splits"].pop(split, None):
                _save(folder, manifest)
            manifest["splits"][split] = _write_split(folder, settings, split, workers, progress)
            _save(folder, manifest)
        if split == "train":  # its images are in the database now
            shutil.rmtree(folder / split, ignore_errors=True)
    return Written(folder, manifest, found)


def _check(settings: Settings, workers: int) -> None:
    with Problems(UsageError) as problems:
        for name, value, low, high in (
            ("train", settings.train, 1, TEST_INDEX),
            ("test", settings.test, 1, TEST_INDEX),
            ("seed", settings.seed, 0, LARGEST_SEED),
            ("size", settings.size, SMALLEST, LARGEST),
            ("train_size", settings.train_size, SMALLEST, LARGEST),
            ("workers", workers, 1, 1024),
        ):
            if not low <= value <= high:
                problems.add(f"{name} is {value}", expected=f"{low:,} to {high:,}")
        if settings.encoding not in ENCODINGS:
            problems.add(f"encoding '{settings.encoding}'", expected=" or ".join(ENCODINGS))


def _opened(folder: Path, settings: Settings) -> dict[str, Any]:
    """The manifest of a folder, new if there is none; raises UsageError if the folder holds something else."""
    path = folder / f"{NAME}.json"
    fix = "choose another folder, or delete this one"
    if not path.exists():
        taken = [name for name in (*SPLITS, *(f"{NAME}_{s}_image_lmdb" for s in SPLITS)) if (folder / name).exists()]
        if taken:
            found = f"there is {' and '.join(taken)}, but no {path.name}"
            raise UsageError(Problem(found, "a new folder, or one that this command began", fix, file=folder))
        manifest = {"settings": asdict(settings), "splits": {}}
        _save(folder, manifest)
        return manifest
    try:
        manifest = json.loads(read_text(path, DataError))
        there, splits = manifest["settings"], manifest["splits"]
        if not isinstance(splits, dict):
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise DataError(Problem("this is no manifest of such a data set", fix=fix, file=path)) from None
    wanted = asdict(settings)
    if there != wanted:
        differ = [f"{key} {there.get(key)}" for key in wanted if there.get(key) != wanted[key]]
        expected = ", ".join(f"{key} {wanted[key]}" for key in wanted if there.get(key) != wanted[key])
        raise UsageError(Problem(f"a data set of {', '.join(differ)} is here", expected, fix, file=folder))
    return manifest


def _sweep(folder: Path) -> None:
    """Remove what a killed call left half written."""
    for left in folder.glob(f".{NAME}*.tmp"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _save(folder: Path, manifest: dict[str, Any]) -> None:
    splits = manifest["splits"]
    manifest["splits"] = {split: splits[split] for split in SPLITS if split in splits}
    manifest["complete"] = len(splits) == len(SPLITS)
    manifest["classes"] = list(NAMES)
    manifest["drawn_with"] = {"numpy": np.__version__, "opencv": cv2.__version__}
    write_text(folder / f"{NAME}.json", json.dumps(manifest, indent=1) + "\n")


def _lists(folder: Path, split: str) -> dict[str, Path]:
    """The text files of a split; the training images' list lies with the images, and goes with them."""
    where = folder if split == "test" else folder / split
    return {
        "imglist": where / f"{NAME}_{split}_imglist.txt",
        "label": folder / f"{NAME}_{split}_label.txt",
        "classes": folder / f"{NAME}_classes.txt",
    }


def _complete(folder: Path, manifest: dict[str, Any], split: str) -> bool:
    """Whether all that the manifest says of a split is there, the lists unchanged."""
    entry = manifest["splits"].get(split)
    if not entry:
        return False
    databases = [folder / f"{NAME}_{split}_{content}_lmdb" / "data.mdb" for content in ("image", "label")]
    kept = {name: path for name, path in _lists(folder, split).items() if path.parent == folder}
    if not all(path.is_file() for path in (*databases, *kept.values())):
        return False
    if split == "test" and len(list((folder / split).glob("*.*"))) != entry["images"]:
        return False
    return all(_sha256(path) == entry["sha256"][name] for name, path in kept.items())


def _sha256(path: Path) -> str:
    return hashlib.sha256(read_bytes(path, DataError)).hexdigest()


def _write_split(folder: Path, settings: Settings, split: str, workers: int, progress: bool) -> dict[str, Any]:
    """Images, lists and databases of a split; returns its part of the manifest."""
    from port.data import create

    rows, digest = [], hashlib.sha256()
    with tqdm(total=settings.count(split), desc=f"draw {split}", unit="images", disable=not progress) as bar:
        for drawn in _drawn(folder, settings, split, workers):
            for row, image in drawn:
                rows.append(row)
                digest.update(image)
            bar.update(len(drawn))
    lists = _lists(folder, split)
    names = (f"{split}/{number:06d}.{settings.encoding}" for number in range(len(rows)))
    write_text(lists["imglist"], "".join(f"{name} {sum(row)}\n" for name, row in zip(names, rows, strict=True)))
    write_text(lists["label"], "".join(" ".join(map(str, row)) + "\n" for row in rows))
    write_text(lists["classes"], "\n".join(NAMES) + "\n")
    images, labels = (folder / f"{NAME}_{split}_{content}_lmdb" for content in ("image", "label"))
    for database in (images, labels):  # left by a call that ended before it wrote the manifest
        shutil.rmtree(database, ignore_errors=True)
    create(
        lists["imglist"], folder, images,
        encoded="", labels=lists["label"], label_output=labels, progress=progress,
    )  # fmt: skip
    sha256 = {name: _sha256(path) for name, path in lists.items()} | {"images": digest.hexdigest()}
    return {"images": len(rows), "sha256": sha256, "statistics": statistics(np.array(rows))}


Drawn = list[tuple[tuple[int, ...], bytes]]  # labels, 0 or 1 for each class, and the sha256 of the image file


def _drawn(folder: Path, settings: Settings, split: str, workers: int) -> Iterator[Drawn]:
    """Draw what is missing, side by side; yields all images in order, some at a time."""
    count = settings.count(split)
    starts = range(0, count, _CHUNK)
    try:
        (folder / split).mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise DataError(os_problem(folder / split, cause, "write")) from None
    jobs = [(folder, settings, split, start, min(start + _CHUNK, count)) for start in starts]
    if min(workers, len(jobs)) == 1:
        yield from map(_draw, jobs)
        return
    # Not forked: a forked process may wait for ever for threads that only its parent has.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(jobs)), context, _begin)
    try:
        yield from pool.map(_draw, jobs)
    except BrokenProcessPool:
        fix = "run it again, it goes on where it was; fewer workers need less memory"
        raise DataError(Problem("a process that draws was ended from outside", fix=fix, file=folder)) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """What a process does first: it leaves Ctrl-C to its parent, and ends when that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _draw(job: tuple[Path, Settings, str, int, int]) -> Drawn:
    folder, settings, split, start, end = job
    drawn = []
    for number in range(start, end):
        shown = scene(settings.seed, settings.index(split, number))
        path = folder / split / f"{number:06d}.{settings.encoding}"
        try:
            data = path.read_bytes() if path.exists() else b""
            if not data:
                picture = render(shown, settings.pixels(split))
                data = cv2.imencode(path.suffix, picture, ENCODINGS[settings.encoding])[1].tobytes()
                # Not atomic_write: waiting for the disk after each image would take longer than drawing it.
                unfinished = path.with_name(f".{path.name}.tmp")
                unfinished.write_bytes(data)
                unfinished.replace(path)
        except OSError as cause:
            raise DataError(os_problem(path, cause, "write")) from None
        row = tuple(int(name in shown.labels) for name in NAMES)
        drawn.append((row, hashlib.sha256(data).digest()))
    return drawn


def statistics(labels: np.ndarray) -> dict[str, Any]:
    """Figures of labels, (images, classes) of 0 and 1: the mean per image, how many images have 0, 1, ..., by class."""
    per_image = labels.sum(1)
    return {
        "mean": round(float(per_image.mean()), 4),
        "images_with": np.bincount(per_image).tolist(),
        "by_class": dict(zip(NAMES, labels.sum(0).tolist(), strict=True)),
    }


def describe(figures: dict[str, Any]) -> list[str]:
    """Statistics in lines."""
    total = sum(figures["images_with"])
    shares = ", ".join(f"{n}: {count / total:.1%}" for n, count in enumerate(figures["images_with"]))
    classes = ", ".join(f"{name} {count / total:.1%}" for name, count in figures["by_class"].items())
    return [f"  {figures['mean']:.2f} labels per image; images with {shares}", f"  {classes}"]
