"""How far long work is, on the terminal: a bar, or a line now and then where the output is a file."""

from __future__ import annotations

import sys
import time
from collections import deque

from tqdm import tqdm

_PAUSE = 30.0  # seconds between lines in a file


class Progress:
    """Counts on stderr from `start` to `end`; a subclass says in what words."""

    bar_format: str | None = None
    unit = "it"

    def __init__(self, start: int, end: int):
        self.start, self.end, self.now = start, end, start
        self._began = self._told = time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=end,
                initial=start,
                unit=self.unit,
                dynamic_ncols=True,
                mininterval=0.2,
                bar_format=self.bar_format,
                file=sys.stderr,
            )

    def say(self, text: str) -> None:
        """Print lines beside the bar."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the last state on the terminal."""
        if self._bar is not None:
            self._bar.close()
        elif self.now > self.start:
            self._tell()

    def line(self, spent: float) -> str:
        """The state in one line; `spent`: seconds since the start."""
        raise NotImplementedError

    def left(self, spent: float) -> str:
        """How long the rest will take at the pace so far."""
        done = self.now - self.start
        return tqdm.format_interval(spent / done * (self.end - self.now)) if done else "?"

    def _reached(self, now: int) -> None:
        self.now = now
        if self._bar is not None:
            self._bar.update(now - self._bar.n)
        elif time.monotonic() - self._told > _PAUSE:
            self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        print(self.line(self._told - self._began), file=sys.stderr, flush=True)


class TrainingProgress(Progress):
    """Iteration, rate, loss, images per second and the time left."""

    bar_format = "iteration {n_fmt}/{total_fmt} {percentage:3.0f}%|{bar:12}| {elapsed}<{remaining}{postfix}"
    _text = ""

    def reached(self, iteration: int, rate: float, loss: float, images: float) -> None:
        """Move on to an iteration; `images`: per second."""
        self._text = f"rate {rate:g}, loss {loss:.4g}, {images:.1f} images/s"
        if self._bar is not None:
            self._bar.set_postfix_str(self._text, refresh=False)
        self._reached(iteration)

    def line(self, spent: float) -> str:
        times = f"{tqdm.format_interval(spent)}, {self.left(spent)} left"
        return f"iteration {self.now}/{self.end}, {self._text}, {times}"


class ScoringProgress(Progress):
    """Images of all, images per second and the time left; those before `start` an earlier run has scored."""

    unit = "image"

    def moved(self, images: int) -> None:
        """Some more are done."""
        self._reached(self.now + images)

    def line(self, spent: float) -> str:
        speed = (self.now - self.start) / max(spent, 1e-9)
        return f"{self.now}/{self.end} images, {speed:.1f} images/s, {self.left(spent)} left"


class Speedometer:
    """Images per second over the last iterations."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Leave out what came before: a test, a snapshot."""
        self._seen = deque([(time.monotonic(), 0)], maxlen=20)

    def passed(self, images: int) -> float:
        """Take an iteration in; returns the rate."""
        self._seen.append((time.monotonic(), images))
        spent = self._seen[-1][0] - self._seen[0][0]
        return sum(count for _, count in list(self._seen)[1:]) / spent if spent else 0.0
