"""`transform_param`: the numbers of the rules, a naive transformer, original_image, means, what is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from data_layers import transform_param
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from port.data import Transformer, Window
from port.data.transform import resize
from port.data.windows import all_offsets, crop_sizes, draw_original, fixed_offsets, original_centre, original_windows
from port.weights.mean import write_mean
from prototxt_gen.base.errors import DataError, WeightsError


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def picture(height: int, width: int, channels: int = 3, seed: int = 1) -> np.ndarray:
    return rng(seed).integers(0, 256, (height, width, channels)).astype(np.uint8)


# The numbers of the rules.


@pytest.mark.parametrize("size", [(256, 256), (256, 340), (340, 256)])
def test_multi_scale_sizes_in_caffes_order(size: tuple[int, int]):
    w = {256: (256, 224), 224: (256, 224, 192), 192: (224, 192, 168), 168: (192, 168)}
    assert crop_sizes(*size, 224) == [(h, x) for h, row in w.items() for x in row]


def test_multi_scale_with_another_last_ratio():
    assert crop_sizes(256, 256, 224, (1, 0.875, 0.75, 0.65))[-1] == (166, 166)


@pytest.mark.parametrize(("distort", "count"), [(0, 4), (1, 10), (2, 14), (3, 16)])
def test_max_distort_counts_places_in_the_list(distort: int, count: int):
    assert len(crop_sizes(256, 256, 224, max_distort=distort)) == count


def test_sizes_snap_to_the_crop_within_two_pixels():
    # 61 x 1, .95, .9 = 61, 57, 54: 57 and 54 are within 2 of 56, 61 is not.
    assert crop_sizes(61, 99, 56, (1, 0.95, 0.9), 0) == [(61, 61), (56, 56), (56, 56)]
    assert crop_sizes(61, 99, 58, (1, 0.95, 0.9), 0) == [(61, 61), (58, 58), (54, 54)]


def test_fixed_offsets():
    corners = [(0, 0), (0, 116), (32, 0), (32, 116), (16, 58)]
    more = [(0, 58), (32, 58), (16, 0), (16, 116), (8, 29), (8, 87), (24, 29), (24, 87)]
    assert fixed_offsets(256, 340, (224, 224)) == corners
    assert fixed_offsets(256, 340, (224, 224), more=True) == corners + more
    assert fixed_offsets(256, 257, (169, 168))[3] == (84, 88)  # not the far corner (87, 89)


def test_resize_is_opencvs():
    matrix = (np.arange(16, dtype=np.uint8) * 17).reshape(4, 4, 1)
    bilinear = [[14, 37, 59], [105, 128, 150], [195, 218, 241]]
    np.testing.assert_array_equal(resize(matrix, 3, 3)[:, :, 0], bilinear)
    bicubic = np.array([[11, 34, 57], [104, 128, 151], [198, 221, 244]])
    found = resize(matrix, 3, 3, cv2.INTER_CUBIC)[:, :, 0]
    assert np.abs(found.astype(int) - bicubic).max() <= 1  # versions of OpenCV differ by 1 grey level


# A naive transformer, written from the rules.


def naive(pixels, window, mirror, crop, scale, mean, flow, corner):
    row, column, height, width = window
    part = pixels[row : row + height, column : column + width]
    if crop and (height, width) != (crop, crop):
        part = np.stack([cv2.resize(part[:, :, c], (crop, crop)) for c in range(part.shape[2])], axis=2)
    result = np.zeros((part.shape[2], *part.shape[:2]))
    for c, h, w in np.ndindex(*result.shape):
        value = float(part[h, w, c])
        if flow and mirror and c % 2 == 0:
            value = 255 - value
        at = (h, w) if corner else (row + h, column + w)
        result[c, h, part.shape[1] - 1 - w if mirror else w] = (value - mean[(c, *at)]) * scale
    return result


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    height=st.integers(8, 11),
    width=st.integers(8, 13),
    channels=st.sampled_from([1, 3, 5]),
    crop=st.sampled_from([0, 5, 8]),
    scale=st.sampled_from([1.0, 0.0125]),
    train=st.booleans(),
    multi=st.booleans(),
    fix=st.booleans(),
    flow=st.booleans(),
    mean=st.sampled_from(["", "file", "one", "each"]),
)
def test_against_a_naive_transformer(
    tmp_path_factory, seed, height, width, channels, crop, scale, train, multi, fix, flow, mean
):
    pixels = picture(height, width, channels, seed)
    values = rng(seed + 1).uniform(0, 200, (channels, height, width)).astype(np.float32)
    fields = f"crop_size: {crop} mirror: true scale: {scale} multi_scale: {str(multi).lower()} "
    fields += f"fix_crop: {str(fix).lower()} is_flow: {str(flow).lower()} "
    if mean == "file":
        path = tmp_path_factory.mktemp("mean") / "mean.binaryproto"
        write_mean(path, values)
        fields += f'mean_file: "{path}"'
    elif mean:
        per = values[:1, 0, 0] if mean == "one" else values[:, 0, 0]
        fields += " ".join(f"mean_value: {v}" for v in per)
        values = np.broadcast_to(per[:, None, None], values.shape)
    else:
        values = np.zeros_like(values)
    transformer = Transformer(transform_param(fields), "TRAIN" if train else "TEST")
    # Drawn in this order: mirror, then the window.
    draws = rng(seed)
    mirror = bool(draws.integers(2))
    window = transformer.draw(height, width, draws, False)
    found = transformer(pixels, rng(seed), as_image=False)
    expected = naive(pixels, window, mirror, crop, scale, values, flow, corner=multi and bool(crop))
    # Rounding of a float32 subtraction and a multiplication of values up to 255.
    np.testing.assert_allclose(found, expected, atol=255 * 2**-22)


def test_images_and_raw_datums_are_resized_alike():
    transformer = Transformer(transform_param("crop_size: 7"), "TRAIN")
    pixels, window = picture(13, 17), Window(1, 2, 11, 9)
    as_image, raw = (transformer.apply(pixels, window, False, kind) for kind in (True, False))
    assert as_image.shape == (3, 7, 7)
    np.testing.assert_array_equal(as_image, raw)


def test_raw_datums_of_floats_are_not_rounded():
    transformer = Transformer(transform_param("crop_size: 4"), "TRAIN")
    found = transformer.apply(picture(9, 11, 6).astype(np.float32) / 256, Window(0, 0, 9, 11), False, as_image=False)
    assert found.shape == (6, 4, 4) and len(np.unique(found % 1)) > 50


def test_mirror_is_drawn_in_test_phase_too():
    transformer = Transformer(transform_param("mirror: true"), "TEST")
    pixels = picture(2, 3)
    seen = {transformer(pixels, rng(seed)).tobytes() for seed in range(20)}
    assert len(seen) == 2


def test_more_fix_crop_alone_changes_nothing():
    plain, more = (
        Transformer(transform_param(f), "TRAIN") for f in ("crop_size: 4", "crop_size: 4 more_fix_crop: true")
    )
    assert list(plain.windows(6, 7)) == list(more.windows(6, 7))
    assert [w[:2] for w, _ in plain.windows(6, 7)] == all_offsets(6, 7, (4, 4)) and len(all_offsets(6, 7, (4, 4))) == 12


def test_test_phase_takes_the_centre_whatever_the_crops():
    fields = "crop_size: 4 multi_scale: true fix_crop: true more_fix_crop: true"
    assert list(Transformer(transform_param(fields), "TEST").windows(9, 11)) == [((2, 3, 4, 4), 1.0)]


# original_image


def test_original_image_in_test_phase():
    assert original_centre(64, 63) == (4, 4, 56, 49)
    transformer = Transformer(transform_param("crop_size: 40 original_image: true"), "TEST")
    pixels = picture(30, 45)  # smaller than the crop
    expected = cv2.resize(pixels[2:23, 3:38], (40, 40), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_array_equal(transformer(pixels, rng()), expected.transpose(2, 0, 1).astype(np.float32))


def test_original_image_in_training_draws_its_windows_as_often_as_the_rules_say():
    height, width, count = 24, 20, 20_000
    probabilities = dict(original_windows(height, width))
    assert sum(probabilities.values()) == pytest.approx(1, abs=1e-3)  # by midpoints
    draws = rng(3)
    windows = Counter(draw_original(height, width, draws) for _ in range(count))
    assert set(windows) <= set(probabilities)
    # The last position is used by nothing smaller than the image.
    assert all(w.row + w.height < height or w.height == height for w in windows)
    by_size, expected = Counter(), Counter()
    for window, number in windows.items():
        by_size[window[2:]] += number
    for window, probability in probabilities.items():
        expected[window[2:]] += probability * count
    often = [size for size in expected if expected[size] >= 5]
    seen = np.array([by_size[size] for size in often] + [count - sum(by_size[size] for size in often)])
    wanted = np.array([expected[size] for size in often])
    assert len(often) > 100
    assert chisquare(seen, np.append(wanted, count - wanted.sum())).pvalue > 1e-3


def test_original_image_draws_aspect_and_area_uniformly():
    height, width = 500, 400
    draws = rng(4)
    windows = [draw_original(height, width, draws) for _ in range(4000)]
    free = [w for w in windows if w.height < 300 and w.width < 300]  # small enough to be seldom refused
    aspect = np.array([(w.width + 0.5) / (w.height + 0.5) for w in free])
    assert aspect.min() > 0.74 and aspect.max() < 1.34
    # Uniform in the ratio: a log-uniform one would have its median at sqrt(.75 * 1.33) = 0.9987, not 1.04.
    assert np.median(aspect) == pytest.approx(1.04, abs=0.02)


def test_original_image_is_for_images_only():
    transformer = Transformer(transform_param("crop_size: 5 original_image: true fix_crop: true"), "TRAIN")
    assert len(list(transformer.windows(9, 9, as_image=False))) == 5
    assert len(list(transformer.windows(9, 9))) > 20


# What is refused.


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ('mean_file: "x" mean_value: 3', "both mean_file and mean_value"),
        ("force_color: true force_gray: true", "both force_color and force_gray"),
        ("original_image: true", "original_image without crop_size"),
        ("multi_scale: true crop_size: 3 max_distort: -1", "no crop size is left"),
        ("multi_scale: true crop_size: 3 scale_ratios: 1 scale_ratios: nan", "'scale_ratios': 1 nan; expected shares"),
        ("multi_scale: true crop_size: 3 scale_ratios: -inf", "'scale_ratios': -inf; expected shares"),
        ("multi_scale: true crop_size: 3 scale_ratios: 1e38", "'scale_ratios': 1e\\+38; expected shares"),
    ],
)
def test_settings_that_do_not_go_together(fields: str, message: str):
    with pytest.raises(DataError, match=message):
        Transformer(transform_param(fields))


@pytest.mark.parametrize(
    ("fields", "phase", "message"),
    [
        ("crop_size: 10", "TEST", "a crop of 10x10 from an item of 9x12"),
        ("crop_size: 10", "TRAIN", "a crop of 10x10 from an item of 9x12"),
        ("crop_size: 4 multi_scale: true scale_ratios: 1.5", "TRAIN", "a crop of 13x13 from an item of 9x12"),
        ("crop_size: 9 multi_scale: true scale_ratios: 0.1", "TRAIN", "a crop of 0x0"),
        # Caffe wants the item as large as crop_size, though a smaller crop would be drawn and enlarged.
        ("crop_size: 20 multi_scale: true", "TRAIN", "a crop of 20x20 from an item of 9x12"),
        ("crop_size: 10 multi_scale: true fix_crop: true", "TRAIN", "a crop of 10x10 from an item of 9x12"),
        ("mean_value: 3 mean_value: 4", "TEST", "2 values for an item of 3 channels; expected 1 or 3"),
    ],
)
def test_items_that_do_not_fit(fields: str, phase: str, message: str):
    transformer = Transformer(transform_param(fields), phase)
    with pytest.raises(DataError, match=message):
        transformer(picture(9, 12), rng())
    with pytest.raises(DataError, match=message):
        list(transformer.candidates(picture(9, 12)))


def test_mean_images_that_do_not_fit(tmp_path: Path):
    write_mean(tmp_path / "m", np.ones((3, 9, 11)))
    with pytest.raises(DataError, match="a mean image 3x9x11 for an item 3x9x12"):
        Transformer(transform_param('mean_file: "m"'), root=tmp_path)(picture(9, 12), rng())
    # An Inception-style window near the edge, wider once it is resized.
    transformer = Transformer(transform_param('mean_file: "m" crop_size: 8 original_image: true'), "TRAIN", tmp_path)
    with pytest.raises(DataError, match="reaches beyond the mean image"):
        transformer.apply(picture(9, 11), Window(5, 5, 3, 3), False)
    with pytest.raises(WeightsError, match="nowhere: field 'mean_file': cannot read"):
        Transformer(transform_param('mean_file: "nowhere"'), root=tmp_path)
