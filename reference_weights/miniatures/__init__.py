"""The miniatures: the paper's five networks at an eighth of the width, trained on the synthetic scenes."""

from .recipe import DATASET, NETWORKS, SHAPES, WIDTH_DIVISOR, options

__all__ = ["DATASET", "NETWORKS", "SHAPES", "WIDTH_DIVISOR", "options"]
