"""The lists that name images, folders of images, and the photographs that are always there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from prototxt_gen.base.errors import DataError, Problem, Problems
from prototxt_gen.base.files import read_text

# The photographs among the images that scikit-image installs with itself.
_PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "camera.png")

# What files in a folder are taken for images.
SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")

_MAX_LISTED = 20


def sample_images() -> list[Path]:
    """The photographs that scikit-image has on this disk; nothing is downloaded."""
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    return [folder / name for name in _PHOTOGRAPHS if (folder / name).is_file()]


def read_image_list(path: str | Path, root: str | Path, must_exist: bool = True) -> list[Path]:
    """The images of a list, one per line: a path relative to `root`, a space and the number of tags.

    Raises DataError naming every line that is malformed or, with `must_exist`, whose image does not exist.
    """
    lines = read_text(path, DataError).rstrip().splitlines()
    if not lines:
        raise DataError(Problem("the list is empty", "one image per line", file=path))
    images = []
    with Problems(DataError, file=path) as problems:
        for number, line in enumerate(lines, start=1):
            name, _, tags = line.strip().rpartition(" ")
            # The authors' program glues root and name together, so a leading slash is not the disk's root.
            image = Path(root) / name.strip().lstrip("/")
            if not name.strip() or not tags.isdecimal():
                problems.add(f"'{line}'", line=number, expected="a path, a space and the number of tags")
            elif must_exist and not os.path.isfile(image):  # False for names that no disk takes, too
                problems.add(f"there is no image {image}", line=number, fix="check the image root")
            images.append(image)
        if len(problems.found) > _MAX_LISTED:
            left = len(problems.found) - _MAX_LISTED
            del problems.found[_MAX_LISTED:]
            problems.add(f"{left} more such lines")
    return images


def find_images(paths: Sequence[str | Path]) -> list[Path]:
    """The image files named, and those anywhere in the folders named, each folder's in the order of their paths.

    Raises DataError naming the paths that do not exist and the folders without an image.
    """
    images: list[Path] = []
    with Problems(DataError) as problems:
        for path in map(Path, paths):
            if path.is_dir():
                found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
                if not found:
                    expected = f"files ending in {', '.join(SUFFIXES)}"
                    problems.add("the folder holds no image", file=path, expected=expected)
                images += found
            elif path.is_file():
                images.append(path)
            else:
                problems.add("there is no such file or folder", file=path, fix="check the path")
    return images
