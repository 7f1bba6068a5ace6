"""Image files as the scikit-image of 2017 (0.12, 0.13) read them: Pillow's pixels, and TIFF's samples as they are.

Which rules these are, and what differs from scikit-image today: docs/scoring.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prototxt_gen.base.errors import DataError, Problem, Problems
from prototxt_gen.base.files import read_head
from prototxt_gen.base.formats import IMAGES, identify

Pixels = NDArray[Any]

GREY, RGB = 1, 2  # TIFF's PhotometricInterpretation, the kinds whose samples are pixels
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # how a file begins, by the order of its bytes; large ones with +


def read_pixels(path: str | Path) -> Pixels:
    """The pixels of an image file, (height, width) grey or (height, width, 3) RGB; uint8, uint16 or float.

    Palettes are looked up, alpha is dropped, four inks become RGB, EXIF rotation is ignored. Raises DataError
    naming a file that is no image, is damaged, or holds several.
    """
    from PIL import Image

    path = Path(path)
    try:
        with open(path, "rb") as file:
            deep = _deep_tiff(file, path) if file.read(4) in _TIFF else None
            if deep is not None:
                return deep
            file.seek(0)
            with Image.open(file) as image:
                return _pixels(image, path)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(Problem("there is no such file", "an image file", "check the path", file=path)) from None
    except IsADirectoryError:
        raise DataError(Problem("this is a folder", "an image file", "check the path", file=path)) from None
    except Exception as cause:  # decoders raise anything
        reason = (str(cause) or type(cause).__name__).splitlines()[0]
        if reason.startswith("cannot identify image file"):
            raise DataError(_no_image(path)) from None
        raise DataError(Problem(f"cannot be read: {reason}", "an image file", file=path)) from None


def _no_image(path: Path) -> Problem:
    """What a file is that Pillow does not know."""
    found, other = "cannot be read: in no known image format", identify(read_head(path, DataError))
    if other is None or other.key in IMAGES:
        return Problem(found, "an image file", file=path)
    fix = other.fix if other.always or other.key == "heif" else ""
    return Problem(f"{found}: this is {other.what}", "an image file", fix, file=path)


def _pixels(image: Any, path: Path) -> Pixels:
    # An animated PNG was its default picture, since nothing then knew of more.
    _check_single(1 if image.format == "PNG" else getattr(image, "n_frames", 1), path)
    if image.mode == "CMYK":
        return _from_inks(np.asarray(image))
    if image.mode in ("1", "L", "LA", "La"):
        return np.asarray(image.convert("L"))
    if image.mode == "I" and image.format != "PNG":
        # scikit-image divided these by 2^31, whatever the file's own range: a PGM of 16 bits came out black.
        found = f"a {image.format} of more than 8 bits"
        raise DataError(Problem(found, "8 bits, or a PNG of 16", "save it as PNG", file=path))
    if image.mode == "F" or image.mode.startswith("I"):
        return _deep(np.asarray(image), path)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _from_inks(inks: Pixels) -> Pixels:
    """Cyan, magenta, yellow and black as Pillow before 4.3 (October 2017) made RGB of them."""
    sums = inks[:, :, :3].astype(np.int16) + inks[:, :, 3:]
    return np.maximum(255 - sums, 0).astype(np.uint8)


def _deep(pixels: Pixels, path: Path) -> Pixels:
    """Grey of more than 8 bits; whole numbers are uint16, as in PNG."""
    if pixels.dtype.kind != "f":
        if pixels.size and (pixels.min() < 0 or pixels.max() > 65535):
            found = f"pixels of {pixels.min()} to {pixels.max()}"
            raise DataError(Problem(found, "0 to 65535", "save it with 8 or 16 bits", file=path))
        return pixels.astype(np.uint16)
    if not np.isfinite(pixels).all():
        raise DataError(Problem("some pixels are NaN or infinite", "finite pixels", file=path))
    if np.abs(pixels).max() > 1:
        found = f"pixels of {pixels.min():g} to {pixels.max():g}"
        raise DataError(Problem(found, "floating point pixels of -1 to 1", "scale them", file=path))
    return pixels


def _check_single(pictures: int, path: Path) -> None:
    if pictures > 1:
        found = f"the file holds {pictures} pictures"
        raise DataError(Problem(found, "one", "save the one that is meant in a file of its own", file=path))


def _deep_tiff(file: Any, path: Path) -> Pixels | None:
    """The samples of a TIFF of more than 8 bits, which Pillow would cut to 8 or not know; None for others.

    Refuses the kinds whose samples the scikit-image of 2017 took for grey or RGB though they are not.
    """
    import tifffile

    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        _check_single(len(tiff.pages), path)
        page: Any = tiff.pages[0]
        if page.photometric not in (GREY, RGB):
            found = f"a TIFF whose samples are neither grey nor RGB (PhotometricInterpretation {page.photometric:d})"
            raise DataError(Problem(found, "grey or RGB", "convert it to PNG or JPEG", file=path))
        # A side of one pixel is no missing axis: planes, depth, height, width, samples of a pixel.
        samples = page.asarray(squeeze=False) if page.bitspersample > 8 else None
    if samples is None:
        return None
    planes, depth, height, width, each = samples.shape
    channels = planes * each
    with Problems(DataError, path) as problems:
        if depth != 1 or not (3 if page.photometric == RGB else 1) <= channels <= 4:
            expected = "one grey or RGB image, with or without alpha"
            problems.add(f"the samples have the shape {samples.shape}", expected=expected)
        if samples.dtype != np.uint16 and samples.dtype.kind != "f":
            expected = "8 or 16 bits without sign, or floating point"
            problems.add(f"samples of {samples.dtype}", expected=expected, fix="save it so")
    pixels = samples[:, 0].transpose(1, 2, 0, 3).reshape(height, width, channels)
    return _deep(pixels[:, :, 0] if channels < 3 else pixels[:, :, :3], path)
