"""Replays what data layers of real Caffe gave: batches value by value, random crops with how often each came."""

from __future__ import annotations

import io
import lzma
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from port.data import DataSource, Window, open_data
from port.data.order import ITEM
from port.data.readers import Pictures
from port.data.source import Plan
from prototxt_gen.base.errors import CaffeError, DataError, Problem
from prototxt_gen.base.files import read_bytes
from prototxt_gen.schema.text import read_prototxt

from .cases import find_recorded
from .compare import compare
from .golden import Recording, phase_and_dialect, read_arrays

DRAWS = 20_000
# Our draws have fixed seeds and Caffe's are recorded, so that a p-value is always above this or never.
LEAST_P = 1e-3
# Grey levels, times the layer's scale. A multiply-add may be fused or not; bicubic resizing, which only
# original_image does, differs by up to 1 between versions of OpenCV.
EXACT, BICUBIC = 1e-4, 1.0

Probabilities = dict[bytes, float]


@dataclass
class DataResult:
    """What became of one recorded case of a data layer."""

    name: str
    images: int = 0  # recorded images compared value by value
    worst: float = 0.0  # their largest difference
    crops: int = 0  # different recorded images of random draws
    p_values: dict[str, float] = field(default_factory=dict)  # "Caffe's" frequencies and those of "our" draws
    problems: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return not self.problems and bool(self.images or self.crops)


def find_data_cases(folders: list[Path]) -> list[Path]:
    """The nets of all recorded data layers below some folders; raises DataError."""
    expected = "NAME.prototxt beside NAME.npz or NAME.npz.xz"
    return find_recorded(folders, ".prototxt", lambda path: any(r.exists() for r in _recordings(path)), expected)


def _recordings(prototxt: Path) -> tuple[Path, Path]:
    return prototxt.with_suffix(".npz"), prototxt.with_suffix(".npz.xz")


def read_data_case(prototxt: Path) -> Recording:
    """What was recorded: `data`, `label` of each pass, or `unique` (or its `sha256`), `count`; raises DataError."""
    plain, packed = _recordings(prototxt)
    if not plain.exists():
        try:
            file: Any = io.BytesIO(lzma.decompress(read_bytes(packed, DataError)))
        except lzma.LZMAError as error:
            raise DataError(Problem(f"not a readable recording: {error}", file=packed)) from None
    else:
        file = plain
    arrays = read_arrays(file, plain)
    if "data" not in arrays and not ("count" in arrays and {"unique", "sha256"} & set(arrays)):
        found, expected = f"a recording of {', '.join(sorted(arrays)[:6])}", "data, or unique and count"
        raise DataError(Problem(found, expected, "for other layers use python -m verify golden", file=plain))
    return Recording(prototxt, arrays, *phase_and_dialect(prototxt))


def open_case(recording: Recording, seed: int = 0) -> DataSource:
    """Our data layer for a case; raises CaffeError."""
    parsed = read_prototxt(recording.prototxt, dialect=recording.dialect)
    message = parsed.message.layer[0]
    root = recording.prototxt.parent
    return open_data(message, recording.phase, parsed.dialect, root=root, seed=seed)


def run_data_case(prototxt: Path, draws: int = DRAWS) -> DataResult:
    """Replay one case; what cannot run is a problem of that case, not an exception."""
    result = DataResult(f"{prototxt.parent.name}/{prototxt.stem}")
    try:
        recording = read_data_case(prototxt)
        source = open_case(recording)
        if "count" in recording.arrays:
            _crops(result, recording, source, draws)
        else:
            _batches(result, recording, source)
    except CaffeError as error:
        result.problems.append(str(error))
    return result


def tolerance(source: DataSource) -> float:
    """How far a value may be from Caffe's."""
    reader = source.plan.reader
    if not isinstance(reader, Pictures):
        return 0.0
    return float((BICUBIC if reader.transformer.original_image else EXACT) * abs(reader.transformer.scale))


def _batches(result: DataResult, recording: Recording, source: DataSource) -> None:
    """Every recorded batch and its labels; where a layer draws at random, each image is one that it can give."""
    expected, labels = recording.arrays["data"], recording.arrays.get("label")
    allowed = tolerance(source)
    ours = source.batches()
    for number, images in enumerate(expected):
        batch = next(ours)
        found = batch[source.tops[0]]
        if found.shape != images.shape:
            result.problems.append(f"batch {number}: images of {found.shape}, Caffe gave {images.shape}")
            break
        for k, (image, theirs) in enumerate(zip(found, images, strict=True)):
            worst = min(_difference(one, theirs) for one in _possible(source, number * len(images) + k, image))
            result.images, result.worst = result.images + 1, max(result.worst, worst)
            if not worst <= allowed:
                result.problems.append(f"batch {number}, image {k}: differs by {worst:.2g}, allowed {allowed:.0e}")
        if labels is not None and len(source.tops) > 1:
            check = compare(batch[source.tops[1]], labels[number], 0.0, f"batch {number}, labels")
            result.problems += [] if check else [str(check)]
    ours.close()  # type: ignore[attr-defined]


def _possible(source: DataSource, k: int, image: np.ndarray) -> Iterator[np.ndarray]:
    """The k-th image that was read; all that could have been, where it is drawn."""
    candidates = [tensor for tensor, _ in source.candidates(source.plan.order(k)[0])]
    yield from candidates if len(candidates) > 1 else [image]


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference; infinite for another shape or a value that is no number."""
    if found.shape != expected.shape or not np.isfinite(found).all():
        return np.inf
    return float(np.abs(found.astype(np.float64) - expected).max())


def _crops(result: DataResult, recording: Recording, source: DataSource, draws: int) -> None:
    """Every recorded crop is among our candidates, and both came as often as the rules say."""
    ours, theirs = candidates(recording, source), recorded_counts(recording)
    result.crops = len(theirs)
    unknown = set(theirs) - set(ours)
    if unknown:
        result.problems.append(f"{len(unknown)} of {len(theirs)} recorded crops are none of our {len(ours)} candidates")
    else:
        result.p_values["Caffe's"] = p_value(theirs, ours)
    if isinstance(source.plan.reader, Pictures):
        result.p_values["our"] = p_value(*drawn_windows(source.plan, source.plan.reader, draws))
    for whose, p in result.p_values.items():
        if not p > LEAST_P:
            result.problems.append(f"{whose} frequencies are not those of the rules: p {p:.1e}, least {LEAST_P:.0e}")


def recorded_counts(recording: Recording) -> dict[bytes, int]:
    """Bytes of each image that Caffe drew (or their SHA-256, where only that was kept) -> how often."""
    arrays = recording.arrays
    kept = arrays["sha256" if "sha256" in arrays else "unique"]
    return {image.tobytes(): int(count) for image, count in zip(kept, arrays["count"], strict=True)}


def candidates(recording: Recording, source: DataSource) -> Probabilities:
    """The same of all images that our rules can give -> probability."""
    found: defaultdict[bytes, float] = defaultdict(float)
    for index in range(len(source)):
        for tensor, probability in source.candidates(index):
            found[key_of(recording, tensor)] += probability / len(source)
    return dict(found)


def key_of(recording: Recording, tensor: np.ndarray) -> bytes:
    """What stands for an image in a recording."""
    arrays = recording.arrays
    kind = np.uint8 if "sha256" in arrays else arrays["unique"].dtype
    content = np.ascontiguousarray(tensor.astype(kind)).tobytes()
    return sha256(content).digest() if "sha256" in arrays else content


def drawn_windows(plan: Plan, reader: Pictures, draws: int) -> tuple[Counter[Window], dict[Window, float]]:
    """How often each window of the first item was drawn, and its probability."""
    pixels, _, as_image = reader.pixels(0, np.random.default_rng(0))
    transformer, (height, width) = reader.transformer, pixels.shape[:2]
    probabilities: defaultdict[Window, float] = defaultdict(float)
    for window, probability in transformer.windows(height, width, as_image):
        probabilities[window] += probability
    return Counter(transformer.draw(height, width, plan.draws(ITEM, i), as_image) for i in range(draws)), probabilities


def p_value(counts: Mapping[Any, int], probabilities: Mapping[Any, float]) -> float:
    """Chi-squared's p of counts under probabilities; 0 for something that cannot be, or nothing at all."""
    from scipy.stats import chisquare

    if not counts or not set(counts) <= set(probabilities):
        return 0.0
    if len(probabilities) == 1:
        return 1.0
    observed = np.array([counts.get(key, 0) for key in probabilities])
    expected = np.array(list(probabilities.values()))
    return float(chisquare(observed, expected / expected.sum() * observed.sum()).pvalue)


def report(results: list[DataResult]) -> str:
    """The failures one by one, then the counts, the largest difference and the least p-values."""
    lines = [f"FAILED {r.name}: {text}" for r in results if not r for text in r.problems or ["nothing was compared"]]
    passed = sum(map(bool, results))
    lines.append(f"{len(results)} recorded cases, {passed} passed, {len(results) - passed} failed")
    fixed = [r for r in results if r and r.images]
    if fixed:
        worst = max(fixed, key=lambda r: r.worst)
        text = f"{sum(r.images for r in fixed)} images, largest difference {worst.worst:.1g} ({worst.name})"
        lines.append(f"  batches: {len(fixed)} cases, {text}")
    drawn = [r for r in results if r and r.crops]
    if drawn:
        crops = f"{sum(r.crops for r in drawn):,} different ones, all among our candidates"
        lines.append(f"  random crops: {len(drawn)} cases, {crops}")
        for whose in ("Caffe's", "our"):
            if found := [(r.p_values[whose], r.name) for r in drawn if whose in r.p_values]:
                lines.append(f"  {whose} frequencies: least p {min(found)[0]:.2g} ({min(found)[1]})")
    return "\n".join(lines)
