"""Image files as the scikit-image of 2017 (0.12, 0.13) read them: Pillow's pixels, and TIFF's samples as they are.

Which rules these are, and what differs from scikit-image today: docs/scoring.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prototxt_gen.errors import DataError, Problem

Pixels = NDArray[Any]

GREY, RGB = 1, 2  # TIFF's PhotometricInterpretation, the kinds whose samples are pixels
_PHOTOMETRIC = 262
_BITS = 258


def read_pixels(path: str | Path) -> Pixels:
    """The pixels of an image file, (height, width) grey or (height, width, 3) RGB; uint8, uint16 or float.

    Palettes are looked up, alpha is dropped, four inks become RGB, EXIF rotation is ignored. Raises DataError
    naming a file that is no image, is damaged, or holds several.
    """
    from PIL import Image

    path = Path(path)
    try:
        with open(path, "rb") as file, Image.open(file) as image:
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
            reason = "in no known image format"
        raise DataError(Problem(f"cannot be read: {reason}", "an image file", file=path)) from None


def _pixels(image: Any, path: Path) -> Pixels:
    # An animated PNG was its default picture, since nothing then knew of more.
    frames = 1 if image.format == "PNG" else getattr(image, "n_frames", 1)
    if frames > 1:
        found = f"the file holds {frames} pictures"
        raise DataError(Problem(found, "one", "save the one that is meant in a file of its own", file=path))
    if image.format == "TIFF":
        _check_tiff(image, path)
        if max(image.tag_v2.get(_BITS, (1,))) > 8:
            return _tiff_samples(path)
    if image.mode == "CMYK":
        return _from_inks(np.asarray(image))
    if image.mode in ("1", "L", "LA", "La"):
        return np.asarray(image.convert("L"))
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


def _check_tiff(image: Any, path: Path) -> None:
    """Refuse the kinds whose samples the scikit-image of 2017 took for grey or RGB though they are not."""
    photometric = image.tag_v2.get(_PHOTOMETRIC)
    if photometric not in (GREY, RGB):
        found = f"a TIFF whose samples are neither grey nor RGB (PhotometricInterpretation {photometric})"
        raise DataError(Problem(found, "grey or RGB", "convert it to PNG or JPEG", file=path))


def _tiff_samples(path: Path) -> Pixels:
    """The samples of a TIFF of more than 8 bits, which Pillow would cut to 8."""
    import tifffile

    samples = np.squeeze(tifffile.imread(path))
    if samples.ndim == 3 and samples.shape[0] in (3, 4) and samples.shape[2] not in (3, 4):  # plane by plane
        samples = samples.transpose(1, 2, 0)
    if samples.ndim == 3 and samples.shape[2] == 2:
        samples = samples[:, :, 0]
    if samples.ndim not in (2, 3) or (samples.ndim == 3 and samples.shape[2] not in (3, 4)):
        expected = "one grey or RGB image, with or without alpha"
        raise DataError(Problem(f"the samples have the shape {samples.shape}", expected, file=path))
    return _deep(samples[:, :, :3] if samples.ndim == 3 else samples, path)
