"""Image preparation against an independent bilinear resize, for every kind of image file, and image lists."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image

from port.images import find_images, load_image, read_image_list, read_pixels, sample_images
from prototxt_gen.base.errors import DataError, UsageError

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


def test_four_inks_become_rgb_as_in_2017(tmp_path, pixels):
    """White and pure inks; black added to an ink darkens it at once, where later Pillows multiply."""
    inks = np.zeros((16, 96, 4), np.uint8)
    for i, ink in enumerate([(0, 0, 0, 0), (255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 255, 0), (0, 0, 0, 100), (100,) * 4]):
        inks[:, 16 * i : 16 * i + 16] = ink
    Image.fromarray(inks, "CMYK").save(tmp_path / "cmyk.jpg", quality=100)
    found = read_pixels(tmp_path / "cmyk.jpg")[8, 8::16].astype(int)
    expected = [(255,) * 3, (0, 255, 255), (255, 0, 255), (255, 255, 0), (155,) * 3, (55,) * 3]
    assert np.abs(found - expected).max() <= 2  # grey levels that JPEG loses


def test_exif_rotation_is_ignored(tmp_path, pixels):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    image = Image.fromarray(pixels)
    image.save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(read_pixels(tmp_path / "turned.png"), pixels)
    image.save(tmp_path / "turned.jpg", exif=exif)
    image.save(tmp_path / "plain.jpg")
    assert np.array_equal(read_pixels(tmp_path / "turned.jpg"), read_pixels(tmp_path / "plain.jpg"))


def test_palettes_are_looked_up(tmp_path, pixels):
    image = Image.fromarray(pixels).quantize(16)
    expected = np.asarray(image.convert("RGB"))
    for name, options in (("a.png", {}), ("b.png", {"transparency": 3}), ("c.gif", {}), ("d.gif", {"transparency": 3})):
        image.save(tmp_path / name, **options)
        assert np.array_equal(read_pixels(tmp_path / name), expected), name
    grey = Image.fromarray(pixels[:, :, 0]).quantize(16)
    grey.save(tmp_path / "grey.png")
    assert np.array_equal(np.unique(read_pixels(tmp_path / "grey.png")), np.unique(np.asarray(grey.convert("L"))))


def test_tiff_samples(tmp_path, pixels):
    """8 bits are the pixels, 16 and floating point keep their depth; other kinds of samples are refused."""
    assert np.array_equal(read_pixels(saved(tmp_path, pixels, "rgb.tif")), pixels)
    deep = pixels.astype(np.uint16) * 257 + 1
    tifffile.imwrite(tmp_path / "deep.tif", deep, photometric="rgb")
    tifffile.imwrite(tmp_path / "planes.tif", deep.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    for name in ("deep.tif", "planes.tif"):
        found = read_pixels(tmp_path / name)
        assert found.dtype == np.uint16 and np.array_equal(found, deep), name
    floats = (pixels[:, :, 0] / np.float32(255)).astype(np.float32)
    tifffile.imwrite(tmp_path / "float.tif", floats, photometric="minisblack")
    assert np.array_equal(read_pixels(tmp_path / "float.tif"), floats)
    for values, reason in ((floats * 255, "pixels of .* to .*; expected floating"), (floats * np.nan, "NaN")):
        tifffile.imwrite(tmp_path / "bad.tif", values, photometric="minisblack")
        with pytest.raises(DataError, match=rf"bad\.tif: .*{reason}"):
            read_pixels(tmp_path / "bad.tif")
    smooth = Image.fromarray(pixels)
    for kind in (smooth.convert("CMYK"), smooth.quantize(16)):
        kind.save(tmp_path / "other.tif")
        with pytest.raises(DataError, match=r"other\.tif: a TIFF whose samples are neither grey nor RGB"):
            read_pixels(tmp_path / "other.tif")


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(
    "shape", [(11, 7, 3), (11, 7), (6, 1, 3), (1, 5, 3), (1, 6), (4, 1), (1, 1), (3, 4), (4, 3, 3)]
)
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_tiff_samples_of_every_kind_and_shape(tmp_path, kind, shape, planes):
    """Also floating point RGB, which Pillow does not know, and sides of one pixel, which are no missing axis."""
    values = np.random.default_rng(4).random(shape)
    values = values.astype(kind) if kind == np.float32 else (values * np.iinfo(kind).max).astype(kind)
    stored, options = values, {"photometric": "rgb" if len(shape) == 3 else "minisblack"}
    if len(shape) == 3 and planes == "separate":
        stored, options = values.transpose(2, 0, 1), options | {"planarconfig": "separate"}
    tifffile.imwrite(tmp_path / "any.tif", stored, **options)
    found = read_pixels(tmp_path / "any.tif")
    assert found.dtype == kind and np.array_equal(found, values)


@pytest.mark.parametrize("kind", [np.int16, np.uint32, np.int32, np.complex64])
def test_tiff_samples_of_another_scale_are_refused(tmp_path, kind):
    """scikit-image scaled each kind by its own range: 300 of int16 is no 300 / 65535."""
    tifffile.imwrite(tmp_path / "odd.tif", np.full((5, 7), 300, kind), photometric="minisblack")
    with pytest.raises(DataError, match=rf"odd\.tif: samples of {np.dtype(kind)}; expected"):
        read_pixels(tmp_path / "odd.tif")


def test_a_deep_pgm_is_refused(tmp_path):
    """The program saw it as almost black."""
    (tmp_path / "deep.pgm").write_bytes(b"P5 3 2 65535\n" + bytes(range(12)))
    with pytest.raises(DataError, match=r"deep\.pgm: a PPM of more than 8 bits; expected 8 bits, or a PNG of 16"):
        read_pixels(tmp_path / "deep.pgm")
    (tmp_path / "plain.pgm").write_bytes(b"P5 3 2 255\n" + bytes(range(6)))
    assert read_pixels(tmp_path / "plain.pgm").tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_tiff_with_several_pictures_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "two.tif", np.zeros((2, 5, 7), np.float32), photometric="minisblack")
    with pytest.raises(DataError, match=r"two\.tif: the file holds 2 pictures"):
        read_pixels(tmp_path / "two.tif")


def test_jpegs_are_decoded_as_pillow_does(tmp_path, pixels):
    smooth = Image.fromarray(pixels).resize((61, 47), Image.Resampling.BICUBIC)
    for subsampling in (0, 1, 2):
        smooth.save(tmp_path / "photo.jpg", quality=60, subsampling=subsampling, progressive=subsampling == 1)
        with Image.open(tmp_path / "photo.jpg") as image:
            assert np.array_equal(read_pixels(tmp_path / "photo.jpg"), np.asarray(image))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no image at all", "in no known image format"),
        (b"", "in no known image format"),
        (b"\x93NUMPY" + bytes(99), r"in no known image format: this is an array of NumPy \(\.npy\); expected an image"),
        (b"<html>not found", "in no known image format: this is a web page .* fetch the file itself"),
        (b"\0\0\0\x18ftypheic" + bytes(12), "this is an image in HEIC or AVIF.* Save it as PNG or JPEG"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "in no known image format; expected an image file$"),
        (None, "there is no such file"),
        ("truncated", "cannot be read: "),
        ("truncated jpeg", "truncated"),
        ("folder", "this is a folder"),
        ("animation", "the file holds 2 pictures"),
    ],
)
def test_unreadable_images_are_named(tmp_path, pixels, content, reason):
    path = tmp_path / "broken.png"
    if content == "truncated":
        saved(tmp_path, pixels, "broken.png")
        path.write_bytes(path.read_bytes()[:200])
    elif content == "truncated jpeg":
        path = saved(tmp_path, np.tile(pixels, (9, 9, 1)), "broken.jpg")
        path.write_bytes(path.read_bytes()[:-2000])
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


def test_lists_can_name_images_that_are_not_there(folder):
    path = folder / "list.txt"
    path.write_text("val/a.jpg 3\nval/none.jpg 0\n")
    assert [image.name for image in read_image_list(path, folder, must_exist=False)] == ["a.jpg", "none.jpg"]


def test_images_of_folders(folder):
    (folder / "val" / "notes.txt").write_text("")
    (folder / "other.PNG").write_bytes(b"")
    found = find_images([folder / "val" / "b c.jpg", folder])
    assert [str(p.relative_to(folder)) for p in found] == ["val/b c.jpg", "other.PNG", "val/a.jpg", "val/b c.jpg"]
    (folder / "empty").mkdir()
    with pytest.raises(DataError) as caught:
        find_images([folder / "none", folder / "empty"])
    assert ["no such file" in str(p) or "holds no image" in str(p) for p in caught.value.problems] == [True, True]
