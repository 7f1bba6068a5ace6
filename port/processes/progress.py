"""How far training is, on the terminal: a bar, or a line now and then where the output is a file."""

from __future__ import annotations

import sys
import time
from collections import deque

from tqdm import tqdm

_PAUSE = 30.0  # seconds between lines in a file


class Progress:
    """Shows iteration, rate, loss, images per second and the time left on stderr."""

    def __init__(self, start: int, end: int):
        self.start, self.end, self.now = start, end, start
        self._text = ""
        self._began = self._told = time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=end,
                initial=start,
                dynamic_ncols=True,
                mininterval=0.2,
                bar_format="iteration {n_fmt}/{total_fmt} {percentage:3.0f}%|{bar:12}| {elapsed}<{remaining}{postfix}",
                file=sys.stderr,
            )

    def say(self, text: str) -> None:
        """Print lines beside the bar."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)

    def reached(self, iteration: int, rate: float, loss: float, images: float) -> None:
        """Move on to an iteration; `images`: per second."""
        self.now = iteration
        self._text = f"rate {rate:g}, loss {loss:.4g}, {images:.1f} images/s"
        if self._bar is not None:
            self._bar.set_postfix_str(self._text, refresh=False)
            self._bar.update(iteration - self._bar.n)
        elif time.monotonic() - self._told > _PAUSE:
            self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        spent = self._told - self._began
        left = spent / max(self.now - self.start, 1) * (self.end - self.now)
        times = f"{tqdm.format_interval(spent)}, {tqdm.format_interval(left)} left"
        print(f"iteration {self.now}/{self.end}, {self._text}, {times}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the last state on the terminal."""
        if self._bar is not None:
            self._bar.close()
        elif self.now > self.start:
            self._tell()


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
