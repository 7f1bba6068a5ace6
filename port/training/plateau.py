"""The paper's schedule: divide the learning rate by 10 whenever the validation loss saturates (section 3.4)."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

_ROOM = 1 + 1e-6  # 1e-3 divided by 10 twice is a little above 1e-5


@dataclass
class Plateau:
    """A learning rate that falls when `patience` tests in a row bring no improvement.

    A test improves when its loss is below the best by more than the share `threshold`. The rate never falls
    below `smallest`; when it would, training has `ended`.
    """

    rate: float
    factor: float = 0.1
    smallest: float = 1e-5
    patience: int = 5
    threshold: float = 1e-3
    best: float = math.inf
    waiting: int = 0  # tests since the last improvement, or the last change of the rate
    ended: bool = False

    def tested(self, loss: float) -> bool:
        """Take a test's loss into account; whether the rate changed, or training ended."""
        first = math.isinf(self.best) and math.isfinite(loss)
        if first or loss < self.best - abs(self.best) * self.threshold:
            self.best, self.waiting = loss, 0
            return False
        self.waiting += 1
        if self.waiting < self.patience:
            return False
        self.waiting = 0
        if self.rate * self.factor * _ROOM < self.smallest:
            self.ended = True
        else:
            self.rate *= self.factor
        return True

    def state(self) -> dict[str, Any]:
        """What `restore` needs."""
        state = asdict(self)
        return {name: state[name] for name in ("rate", "best", "waiting", "ended")}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state; patience, threshold and the like stay as they are given now."""
        for name, value in state.items():
            setattr(self, name, value)
