"""Image preparation against an independent bilinear resize, for every kind of image file, and image lists."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from port.images import load_image, read_image_list, sample_images
from prototxt_gen.errors import DataError, UsageError

# Grey levels of 0 to 255; float32 keeps about 1.5e-5 of them, twice (after resizing, after scaling).
TOLERANCE = 5e-5
MEAN = np.array([104, 117, 123.0])


def plain(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """RGB (h, w, 3) in [0, 1] -> what the authors' program makes of it, in float64: pixel centres are mapped
    to each other, neighbours outside the image are 0, and the result stays within the image's range."""
    high, wide, _ = pixels.shape
    padded = np.zeros((high + 2, wide + 2, 3))
    padded[1:-1, 1:-1] = pixels
    result = np.empty((height, width, 3))
    for row in range(height):
        for column in range(width):
            y, x = (row + 0.5) * high / height + 0.5, (column + 0.5) * wide / width + 0.5
            top, left = int(np.floor(y)), int(np.floor(x))
            down, right = y - top, x - left
            upper = (1 - right) * padded[top, left] + right * padded[top, left + 1]
            lower = padded[top + 1, left] * (1 - right) + right * padded[top + 1, left + 1]
            result[row, column] = (1 - down) * upper + down * lower
    result = np.clip(result, pixels.min(), pixels.max())
    return (result[:, :, ::-1] * 255 - MEAN).transpose(2, 0, 1)


@pytest.fixture
def pixels() -> np.ndarray:
    """Random RGB bytes, none of them near 0, so that the range of the image matters at its border."""
    return np.random.default_rng(0).integers(60, 256, (13, 17, 3), dtype=np.uint8)


def saved(tmp_path, image: np.ndarray, name: str = "image.png", **options):
    Image.fromarray(image).save(tmp_path / name, **options)
    return tmp_path / name


@pytest.mark.parametrize("size", [(5, 7), (29, 31), (9, 40), (13, 17), (1, 1)])
def test_resize_equals_a_plain_bilinear_one(tmp_path, pixels, size):
    result = load_image(saved(tmp_path, pixels), *size)
    assert result.shape == (3, *size) and result.dtype == np.float32 and result.flags.c_contiguous
    assert np.abs(result - plain(pixels / 255, *size)).max() < TOLERANCE


def test_the_comparison_notices_other_preparation(tmp_path, pixels):
    result = load_image(saved(tmp_path, pixels), 5, 7)
    assert np.abs(result[::-1] - plain(pixels / 255, 5, 7)).max() > 1  # RGB
    assert np.abs(result - plain(pixels / 255, 7, 5).transpose(0, 2, 1)).max() > 1  # sizes swapped
    shifted = np.roll(pixels, 1, axis=1)
    assert np.abs(result - plain(shifted / 255, 5, 7)).max() > 1  # by one pixel


def test_channels_are_blue_green_red_less_the_mean(tmp_path):
    red = np.zeros((3, 4, 3), np.uint8)
    red[:, :, 0] = 255
    assert load_image(saved(tmp_path, red), 3, 4)[:, 1, 1].tolist() == [-104, -117, 255 - 123]
    other = load_image(saved(tmp_path, red), 3, 4, mean=(1, 2, 3.5))
    assert other[:, 2, 3].tolist() == [-1, -2, 255 - 3.5]


def test_grey_is_repeated_and_alpha_dropped(tmp_path, pixels):
    grey = pixels[:, :, 0]
    repeated = load_image(saved(tmp_path, np.repeat(grey[:, :, None], 3, 2), "repeated.png"), 5, 7)
    assert np.array_equal(load_image(saved(tmp_path, grey), 5, 7), repeated)
    alpha = np.random.default_rng(1).integers(0, 256, (13, 17, 1), dtype=np.uint8)
    grey_alpha = saved(tmp_path, np.concatenate([grey[:, :, None], alpha], 2), "grey_alpha.png")
    assert np.array_equal(load_image(grey_alpha, 5, 7), repeated)
    rgb_alpha = saved(tmp_path, np.concatenate([pixels, alpha], 2), "rgb_alpha.png")
    assert np.array_equal(load_image(rgb_alpha, 5, 7), load_image(saved(tmp_path, pixels), 5, 7))


def test_sixteen_bits_are_scaled_by_65535(tmp_path):
    deep = np.random.default_rng(2).integers(0, 65536, (11, 13), dtype=np.uint16)
    expected = plain(np.repeat(deep[:, :, None] / 65535, 3, 2), 5, 7)
    assert np.abs(load_image(saved(tmp_path, deep), 5, 7) - expected).max() < TOLERANCE


def test_black_and_white_and_single_frames(tmp_path, pixels):
    bits = pixels[:, :, 0] > 128
    expected = plain(np.repeat(bits[:, :, None], 3, 2).astype(float), 5, 7)
    assert np.abs(load_image(saved(tmp_path, bits), 5, 7) - expected).max() < TOLERANCE
    flat = np.full((6, 9, 3), 77, np.uint8)
    frame = load_image(saved(tmp_path, flat, "one.gif"), 4, 5)
    assert np.abs(frame - plain(flat / 255, 4, 5)).max() < TOLERANCE


@pytest.mark.parametrize("suffix", ["tif", "jpg"])
def test_four_inks_are_not_taken_for_alpha(tmp_path, pixels, suffix):
    smooth = Image.fromarray(pixels).resize((90, 70))
    smooth.convert("CMYK").save(tmp_path / f"cmyk.{suffix}", quality=100)
    result = load_image(tmp_path / f"cmyk.{suffix}", 5, 7)
    # JPEG loses some grey levels; inks taken for colours would be off by 100 and more.
    tolerance = TOLERANCE if suffix == "tif" else 25
    assert np.abs(result - plain(np.asarray(smooth) / 255, 5, 7)).max() < tolerance


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no image at all", "in no known image format"),
        (b"", "in no known image format"),
        (None, "there is no such file"),
        ("truncated", "truncated"),
        ("folder", "this is a folder"),
        ("animation", r"the pixels have the shape \(2, 13, 17, 3\)"),
    ],
)
def test_unreadable_images_are_named(tmp_path, pixels, content, reason):
    path = tmp_path / "broken.png"
    if content == "truncated":
        saved(tmp_path, pixels, "broken.png")
        path.write_bytes(path.read_bytes()[:200])
    elif content == "folder":
        path.mkdir()
    elif content == "animation":
        path = tmp_path / "broken.gif"
        frames = [Image.fromarray(pixels), Image.fromarray(255 - pixels)]
        frames[0].save(path, save_all=True, append_images=frames[1:])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=rf"broken\.\w+: .*{reason}"):
        load_image(path, 5, 7)


def test_an_address_is_not_downloaded():
    with pytest.raises(DataError, match="there is no such file"):
        load_image("http://localhost/image.png", 5, 7)


@pytest.mark.parametrize("arguments", [(0, 7), (5, -1), (5, 7, (1.0, 2.0))])
def test_impossible_sizes_are_refused(tmp_path, pixels, arguments):
    with pytest.raises(UsageError, match="expected a height and width of 1 or more, and 3 means"):
        load_image(saved(tmp_path, pixels), *arguments)


def test_sample_images_are_there_and_readable():
    samples = sample_images()
    assert len(samples) >= 3 and "astronaut.png" in [path.name for path in samples]
    for path in samples:
        image = load_image(path, 8, 9)
        assert image.shape == (3, 8, 9) and image.std() > 10  # grey levels: no flat picture


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "val").mkdir()
    for name in ("a.jpg", "b c.jpg"):
        (tmp_path / "val" / name).write_bytes(b"")
    return tmp_path


def test_image_list_is_read_in_order(folder):
    path = folder / "list.txt"
    path.write_text("val/b c.jpg 3\r\n/val/a.jpg 0\nval/a.jpg 12\n\n")
    assert read_image_list(path, folder) == [folder / "val" / name for name in ("b c.jpg", "a.jpg", "a.jpg")]


def test_all_bad_lines_of_an_image_list_are_named(folder):
    path = folder / "list.txt"
    path.write_text("val/a.jpg\nval/none.jpg 2\n\nval/a.jpg two\nval/a.jpg 1\n 4\n")
    with pytest.raises(DataError) as caught:
        read_image_list(path, folder)
    assert [problem.line for problem in caught.value.problems] == [1, 2, 3, 4, 6]
    assert "none.jpg" in str(caught.value.problems[1]) and "list.txt:2" in str(caught.value.problems[1])


def test_empty_and_endless_lists(folder):
    path = folder / "list.txt"
    path.write_text("\n")
    with pytest.raises(DataError, match="the list is empty"):
        read_image_list(path, folder)
    path.write_text("nothing\n" * 100)
    with pytest.raises(DataError, match="80 more such lines") as caught:
        read_image_list(path, folder)
    assert len(caught.value.problems) == 21
