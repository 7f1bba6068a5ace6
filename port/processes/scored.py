"""How far a run is, on the terminal: a bar, or a line now and then where the output is a file."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

_PAUSE = 30.0  # seconds between lines in a file


class Progress:
    """Counts images on stderr; `done` of them an earlier run has scored."""

    def __init__(self, done: int, total: int):
        self.now, self.total = done, total
        self._start = done
        self._began = self._told = time.monotonic()
        on = sys.stderr.isatty()
        self._bar = tqdm(total=total, initial=done, unit="image", dynamic_ncols=True, file=sys.stderr) if on else None

    def moved(self, images: int) -> None:
        """Some more are done."""
        self.now += images
        if self._bar is not None:
            self._bar.update(images)
        elif time.monotonic() - self._told > _PAUSE:
            self._tell()

    def say(self, text: str) -> None:
        """Print a line beside the bar."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)

    def _tell(self) -> None:
        self._told = time.monotonic()
        speed = (self.now - self._start) / max(self._told - self._began, 1e-9)
        left = tqdm.format_interval((self.total - self.now) / speed) if speed else "?"
        print(f"{self.now}/{self.total} images, {speed:.1f} images/s, {left} left", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the last state on the terminal."""
        if self._bar is not None:
            self._bar.close()
        elif self.now > self._start:
            self._tell()
