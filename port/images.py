"""Images as the authors' test program prepares them (its release of 2017), and the lists that name them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prototxt_gen.errors import DataError, Problem, Problems, UsageError
from prototxt_gen.files import read_text

MEAN = (104.0, 117.0, 123.0)  # blue, green, red

# The photographs among the images that scikit-image installs with itself.
_PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "camera.png")

_MAX_LISTED = 20


def load_image(path: str | Path, height: int, width: int, mean: Sequence[float] = MEAN) -> NDArray[np.float32]:
    """An image as the input of a net: float32 (3, height, width), BGR, 0 to 255 minus `mean` (B, G, R).

    Grey is repeated to three channels and alpha is dropped. The whole image is resized bilinearly without
    anti-aliasing and with zeros outside the image, the defaults of scikit-image in 2017. Raises DataError
    naming a file that is no image, UsageError for a height, width or mean that is none.
    """
    # Slow to import, and only images need it.
    from skimage.transform import resize
    from skimage.util import img_as_float

    if min(height, width) < 1 or len(mean) != 3:
        found = f"height {height}, width {width}, mean {tuple(mean)}"
        raise UsageError(f"{found}; expected a height and width of 1 or more, and 3 means")
    # float32 and back: the authors' program rounds here, then interpolates in float64.
    image = img_as_float(_three_channels(path)).astype(np.float32).astype(np.float64)
    if not np.isfinite(image).all():
        raise DataError(Problem("some pixels are NaN or infinite", "finite pixels", file=path))
    image = resize(image, (height, width), order=1, mode="constant", cval=0, clip=True, anti_aliasing=False)
    blue_first = image.astype(np.float32).transpose(2, 0, 1)[::-1]
    return np.ascontiguousarray(blue_first * np.float32(255) - np.array(mean, np.float32)[:, None, None])


def _three_channels(path: str | Path) -> NDArray[Any]:
    """The pixels of an image file, (height, width, 3) RGB, in the file's own number type."""
    pixels = _pixels(path)
    if pixels.ndim == 4 and pixels.shape[0] == 1:  # an animation of one frame
        pixels = pixels[0]
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or not 1 <= pixels.shape[2] <= 4:
        expected = "one grey or RGB image, with or without alpha"
        raise DataError(Problem(f"the pixels have the shape {pixels.shape}", expected, file=path))
    if pixels.shape[2] <= 2:  # grey, grey and alpha
        return np.repeat(pixels[:, :, :1], 3, axis=2)
    return pixels[:, :, :3]


def _pixels(path: str | Path) -> NDArray[Any]:
    from PIL import Image
    from skimage.io import imread

    # skimage would take a name that looks like an address for one, and download.
    if not Path(path).is_file():
        found = "this is a folder" if Path(path).is_dir() else "there is no such file"
        raise DataError(Problem(found, "an image file", "check the path", file=path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels = np.asarray(imread(Path(path)))
            if pixels.ndim == 3 and pixels.shape[2] == 4:
                with Image.open(path) as file:
                    if file.mode == "CMYK":  # four colours, not RGB and alpha
                        pixels = np.asarray(file.convert("RGB"))
    except Exception as cause:  # decoders raise anything
        reason = (str(cause) or type(cause).__name__).splitlines()[0]
        if reason.startswith("Could not find a backend"):
            reason = "in no known image format"
        raise DataError(Problem(f"cannot be read: {reason}", "an image file", file=path)) from None
    return pixels


def sample_images() -> list[Path]:
    """The photographs that scikit-image has on this disk; nothing is downloaded."""
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    return [folder / name for name in _PHOTOGRAPHS if (folder / name).is_file()]


def read_image_list(path: str | Path, root: str | Path) -> list[Path]:
    """The images of a list, one per line: a path relative to `root`, a space and the number of tags.

    Raises DataError naming every line that is malformed or whose image does not exist.
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
            elif not image.is_file():
                problems.add(f"there is no image {image}", line=number, fix="check the image root")
            images.append(image)
        if len(problems.found) > _MAX_LISTED:
            left = len(problems.found) - _MAX_LISTED
            del problems.found[_MAX_LISTED:]
            problems.add(f"{left} more such lines")
    return images
