"""Random layers for the property tests: how they are drawn, and Caffe's rules for them in plain loops."""

from . import (
    draws_losses,
    draws_shapes,
    draws_windows,
    rules_elementwise,
    rules_losses,
    rules_recurrent,
    rules_shapes,
    rules_windows,
)

# each enters its layer types on being imported
__all__ = [
    "draws_losses",
    "draws_shapes",
    "draws_windows",
    "rules_elementwise",
    "rules_losses",
    "rules_recurrent",
    "rules_shapes",
    "rules_windows",
]
