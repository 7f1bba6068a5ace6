"""Values of a bottom that stand for places: labels, indices, items; checked before anything is looked up by them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .base import Misfit

_FAR = 1e30  # where sums and multiples of places are still numbers in float32


def check_places(
    values: Any, count: int, what: str, *, ignored: int | None = None, whole: bool = False, bottom: int = 1
) -> None:
    """Raise Misfit for a value (array or tensor) that, cut to an integer as C does, is none of 0 to count - 1.

    Values that cut to `ignored` pass. `whole`: Caffe compares before it cuts, so that -0.5 is refused as well. The
    least and the largest value are all that is looked at unless one of them is wrong. Nothing is done where PyTorch
    compiles the net, which cannot look at values.
    """
    if isinstance(values, torch.Tensor):
        if not values.numel() or torch.compiler.is_compiling():
            return
        low, high = torch.stack(torch.aminmax(values.detach())).tolist()  # one transfer from a GPU
    else:
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
    if (low >= 0 if whole else low > -1) and high < count:  # False for NaN
        return
    _name_first(values, count, what, ignored, whole, bottom)


def check_finite(values: Any, what: str, bottom: int) -> None:
    """Raise Misfit for a value that no integer stands for: C leaves its conversion undefined."""
    if isinstance(values, torch.Tensor) and torch.compiler.is_compiling():
        return
    sound = torch.isfinite(values).all() if isinstance(values, torch.Tensor) else np.isfinite(values).all()
    if not sound:
        array = _array(values)
        _complain(array, ~np.isfinite(array), what, "a number", bottom)


def check_regions(rois: Any, items: int, scale: float) -> None:
    """Raise Misfit for a region [item, x1, y1, x2, y2] of no item, or whose places on the map float32 does not hold."""
    if isinstance(rois, torch.Tensor) and torch.compiler.is_compiling():
        return
    rows = rois.reshape(-1, 5)
    check_places(rows[:, 0], items, "region's item")
    check_finite(rois, "number of a region", 1)
    reach = float(abs(rows[:, 1:]).max()) * abs(scale) if len(rows) else 0.0
    if not reach < _FAR:
        raise Misfit(f"regions that reach to {reach:g} on the map", f"below {_FAR:g}", "spatial_scale")


def _array(values: Any) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        return values.detach().to("cpu", torch.float64).numpy()
    return np.asarray(values, np.float64)


def _name_first(values: Any, count: int, what: str, ignored: int | None, whole: bool, bottom: int) -> None:
    """Raise Misfit with the first value that does not fit, if there is one besides the ignored."""
    array = _array(values)
    fits = (array >= 0 if whole else array > -1) & (array < count)
    if ignored is not None:
        fits |= np.trunc(array) == ignored
    if not fits.all():
        wanted = f"0 to {count - 1}" if count else "none: there is nothing to choose from"
        if ignored is not None and count:
            wanted += f", or the ignored {ignored}"
        _complain(array, ~fits, what, wanted, bottom)


def _complain(array: np.ndarray, wrong: np.ndarray, what: str, wanted: str, bottom: int) -> None:
    """Raise Misfit naming the first wrong value, its place and how many there are."""
    place = tuple(map(int, np.unravel_index(int(wrong.argmax()), wrong.shape)))
    where = f"item {place[0]}" if place else "the only item"
    if any(place[1:]):
        where += f", position {', '.join(map(str, place))}"
    found = f"the {what} {array[place]:.9g} at {where} of bottom {bottom}"
    others = int(wrong.sum()) - 1
    raise Misfit(f"{found} (and {others} more)" if others else found, wanted, "bottom")
