"""Drawing lots: integers and colours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Color = tuple[int, int, int]


class Lot:
    """Draws integers; NumPy keeps the stream of RandomState for ever, and only exact operations follow it."""

    def __init__(self, *key: int):
        self._draw = np.random.RandomState(list(key)).random_sample

    def below(self, count: int) -> int:
        """An integer from 0 to count - 1; 0 if there is none."""
        return int(self._draw() * count)

    def between(self, low: int, high: int) -> int:
        """An integer from low to high, both included; low if there is none."""
        return low + int(self._draw() * max(high - low + 1, 1))

    def percent(self, chance: int) -> bool:
        """True so often in a hundred."""
        return self._draw() * 100 < chance

    def sign(self) -> int:
        """1 or -1."""
        return 1 if self.percent(50) else -1

    def weighted(self, weights: Sequence[int]) -> int:
        """An index, drawn by weight."""
        left = self.below(sum(weights))
        index = 0
        while left >= weights[index]:
            left -= weights[index]
            index += 1
        return index

    def color(self, level: int) -> Color:
        """Any colour of about this brightness."""
        blue, green, red = self.below(256), self.below(256), self.below(256)
        for _ in range(3):  # what one step cuts off at 0 or 255, the next makes up for
            shift = level - brightness((blue, green, red))
            blue, green, red = (min(255, max(0, c + shift)) for c in (blue, green, red))
        return blue, green, red

    def faded(self, color: Color) -> Color:
        """A colour with up to four fifths of its hue taken away."""
        grey, part = brightness(color), self.between(20, 100)
        blue, green, red = (grey + (c - grey) * part // 100 for c in color)
        return blue, green, red


def brightness(color: Color) -> int:
    """0 to 255; colours are BGR."""
    return (29 * color[0] + 150 * color[1] + 77 * color[2]) >> 8
