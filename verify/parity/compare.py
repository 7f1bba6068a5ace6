"""Comparing two arrays: an object that says pass or fail, how far apart, where, and why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from port.layers import show


@dataclass(frozen=True)
class Comparison:
    """The result of one comparison; true when it passed."""

    name: str
    shape: tuple[int, ...]
    absolute: float  # largest difference
    scale: float  # largest absolute value of what was expected, 1 where all of it is 0
    tolerance: float  # relative to scale
    where: tuple[int, ...] = ()
    note: str = ""  # why it cannot pass, whatever the tolerance

    @property
    def relative(self) -> float:
        """Largest difference relative to the largest expected value: the tolerance that would have passed."""
        return self.absolute / self.scale

    def __bool__(self) -> bool:
        # not `>`: a NaN must fail
        return not self.note and self.relative <= self.tolerance

    def __str__(self) -> str:
        if self.note:
            return f"{self.name}: {self.note}"
        text = f"{self.name}: {self.relative:.1e} of the largest value ({self.absolute:.1e}) at {self.where}"
        return text if self else f"{text}, allowed {self.tolerance:.0e}"


def compare(found: np.ndarray, expected: np.ndarray, tolerance: float, name: str = "", nan: bool = False) -> Comparison:
    """Compare `found` with `expected`, the largest difference relative to the largest expected value.

    Shapes must be equal, nothing to compare is a failure, and so is NaN or infinity on either side, unless
    `nan` says that real Caffe recorded them: then they must stand in the same places.
    """
    found, expected = np.asarray(found), np.asarray(expected)

    def failed(note: str) -> Comparison:
        return Comparison(name, tuple(expected.shape), np.inf, 1.0, tolerance, note=note)

    if found.shape != expected.shape:
        return failed(f"shape {show(found.shape)}, expected {show(expected.shape)}")
    if expected.size == 0:
        return failed("nothing to compare: the blob is empty")
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    odd = ~np.isfinite(expected)
    if odd.any() and not nan:
        return failed(f"the expected blob has {int(odd.sum())} values that are NaN or infinite")
    same = np.where(odd, (found == expected) | (np.isnan(found) & np.isnan(expected)), np.isfinite(found))
    if not same.all():
        at = tuple(map(int, np.argwhere(~same)[0]))
        return failed(f"{found[at]} at {at}, expected {expected[at]} ({int((~same).sum())} such values)")
    difference = np.abs(np.where(odd, 0, found) - np.where(odd, 0, expected))
    at = tuple(map(int, np.unravel_index(int(difference.argmax()), difference.shape)))
    scale = float(np.abs(np.where(odd, 0, expected)).max()) or 1.0
    return Comparison(name, tuple(expected.shape), float(difference[at]), scale, tolerance, tuple(map(int, at)))
