"""The loss that Caffe displays: the mean of the last `average_loss` iterations; Solver::UpdateSmoothedLoss."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class SmoothedLoss:
    """A running mean over a window, as Caffe keeps it: a plain mean until the window is full."""

    window: int = 1
    start: int = 0  # the iteration of the first loss
    losses: list[float] = field(default_factory=list)
    value: float = 0.0

    def add(self, loss: float, iteration: int) -> float:
        """Take the loss of an iteration in; returns the mean."""
        count = len(self.losses)
        if count < self.window:
            self.losses.append(loss)
            self.value = (self.value * count + loss) / (count + 1)
        else:
            place = (iteration - self.start) % self.window
            self.value += (loss - self.losses[place]) / self.window
            self.losses[place] = loss
        return self.value

    def state(self) -> dict[str, Any]:
        """What `restored` needs."""
        return asdict(self)

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state; with another window the mean starts anew."""
        if state["window"] == self.window:
            self.start, self.losses, self.value = state["start"], list(state["losses"]), state["value"]
