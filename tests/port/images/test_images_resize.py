"""The ways to resize an image: the default against scikit-image itself, the others against their libraries."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage.transform import resize
from skimage.util import img_as_float

from port.data.readers import read_image
from port.images import MEAN, RESIZES, load_image
from port.images.resize import WAYS, authors, pycaffe, unit_values
from prototxt_gen.base.errors import UsageError

# Of 255 grey levels. Both compute in float64 and round to float32 once.
TOLERANCE = 1e-4
KINDS = ("RGB", "grey", "16 bits", "float", "bright")


def drawn(seed: int) -> tuple[np.ndarray, int, int]:
    """Pixels as a file may hold them, and a height and width to bring them to; sides of 1 are frequent."""
    random = np.random.default_rng(seed)
    height, width, wanted_height, wanted_width = (
        1 if random.random() < 0.1 else int(random.integers(2, 130)) for _ in range(4)
    )
    kind = KINDS[seed % len(KINDS)]
    shape = (height, width) if kind in ("grey", "float") else (height, width, 3)
    if kind == "16 bits":
        return random.integers(0, 65536, shape, dtype=np.uint16), wanted_height, wanted_width
    if kind == "float":
        return random.uniform(-0.5, 1, shape).astype(np.float32), wanted_height, wanted_width
    return random.integers(90 if kind == "bright" else 0, 256, shape, dtype=np.uint8), wanted_height, wanted_width


def of_scikit_image(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """(3, height, width) in [0, 1], with the defaults that `resize` had in 2017."""
    image = img_as_float(pixels).astype(np.float32).astype(np.float64)
    if image.ndim == 2:
        image = np.tile(image[:, :, None], (1, 1, 3))
    result = resize(image, (height, width), order=1, mode="constant", cval=0, clip=True, anti_aliasing=False)
    return result.transpose(2, 0, 1)


@pytest.mark.parametrize("part", range(10))
def test_the_authors_way_is_scikit_images(part):
    """20 images each: enlarged and reduced, per axis, of every kind of pixels."""
    for seed in range(20 * part, 20 * part + 20):
        pixels, height, width = drawn(seed)
        found = authors(pixels, height, width)
        assert found.shape == (3, height, width)
        error = np.abs(found - of_scikit_image(pixels, height, width)).max() * 255
        assert error < TOLERANCE, f"seed {seed}: {pixels.shape} to {height} x {width}, {error} grey levels"


def test_the_comparison_sees_another_border_range_and_shift():
    pixels, height, width = np.full((5, 7, 3), 200, np.uint8), 9, 11
    pixels[2, 3] = 180
    expected = of_scikit_image(pixels, height, width)
    pixels[2, 3] = 0  # now darker ones are within the range, and the border's corners turn dark
    dark = of_scikit_image(pixels, height, width)
    assert np.abs(authors(pixels, height, width) - dark).max() * 255 < TOLERANCE
    assert np.abs(dark - expected)[:, 0, 0].min() * 255 > 10
    assert np.abs(authors(np.roll(pixels, 1, axis=1), height, width) - dark).max() * 255 > 50
    for way in ("opencv", "pil"):
        assert np.abs(WAYS[way](pixels, height, width) - dark)[:, 0, 0].min() * 255 > 50


def test_the_same_size_leaves_every_pixel(tmp_path):
    pixels = np.random.default_rng(3).integers(0, 256, (13, 17, 3), dtype=np.uint8)
    assert np.array_equal(authors(pixels, 13, 17), unit_values(pixels).transpose(2, 0, 1))


def test_pycaffe_stretches_the_range_before():
    for seed in range(40):
        pixels, height, width = drawn(seed)
        image = unit_values(pixels)
        least, most = image.min(), image.max()
        if most > least:
            stretched = of_scikit_image((image - least) / (most - least), height, width)
            # scikit-image's own rounding of the stretched image to float32
            assert np.abs(pycaffe(pixels, height, width) - (stretched * (most - least) + least)).max() < 2e-7, seed


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(5).integers(0, 256, (41, 53, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((203, 151), Image.Resampling.BICUBIC).save(tmp_path / "photo.jpg", quality=90)
    return tmp_path / "photo.jpg"


def test_the_other_ways_are_their_libraries(photo):
    pixels = np.asarray(Image.open(photo))
    size = (31, 29)  # width, height
    expected = {
        "antialias": resize(pixels, size[::-1]) * 255,
        "pil": np.asarray(Image.open(photo).resize(size, Image.Resampling.BILINEAR)),
        "opencv": cv2.resize(pixels, size),
        "opencv-area": cv2.resize(pixels, size, interpolation=cv2.INTER_AREA),
        "caffe": read_image(photo, 1, 29, 31)[:, :, ::-1],
    }
    for way, image in expected.items():
        want = image[:, :, ::-1].transpose(2, 0, 1) - np.array(MEAN)[:, None, None]
        assert np.abs(load_image(photo, 29, 31, resize=way) - want).max() < TOLERANCE, way
    # they are different ways: here by more than any rounding
    different = [load_image(photo, 29, 31, resize=way) for way in ("authors", "antialias", "pil", "opencv-area")]
    for i, one in enumerate(different):
        for other in different[:i]:
            assert np.abs(one - other).max() > 2


@pytest.mark.parametrize("way", RESIZES)
@pytest.mark.parametrize("mode", ["L", "RGB", "I;16", "F"])
def test_every_way_takes_every_kind_of_pixels(tmp_path, way, mode):
    kinds = {"L": (np.uint8, 255), "RGB": (np.uint8, 255), "I;16": (np.uint16, 65535), "F": (np.float32, 1)}
    dtype, top = kinds[mode]
    pixels = np.full((12, 15, 3) if mode == "RGB" else (12, 15), top * 0.5, dtype)
    path = tmp_path / ("image.tif" if mode == "F" else "image.png")
    Image.fromarray(pixels).save(path)
    if way == "caffe" and mode == "F":
        pytest.skip("OpenCV's 8-bit reading of a floating point TIFF is 0 or 1")
    found = load_image(path, 5, 7, (0, 0, 0), way)
    assert found.shape == (3, 5, 7) and found.dtype == np.float32 and found.flags.c_contiguous
    assert np.abs(found - 127.5).max() <= 0.51


def test_an_unknown_way_is_refused(photo):
    with pytest.raises(UsageError, match="resize 'opencv-aera': did you mean 'opencv-area'"):
        load_image(photo, 5, 7, resize="opencv-aera")
