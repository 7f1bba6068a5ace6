"""What the machine offers to this process."""

from __future__ import annotations

import os
from pathlib import Path


def cores() -> int:
    """How many cores this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int | None:
    """Bytes that this process can still have, by the system and its own limit; None where the system does not say."""
    known = [n for n in (_available(), _below_limit()) if n is not None]
    return min(known, default=None)


def _available() -> int | None:
    """Bytes that the system can still give away."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("MemAvailable")))
    except (OSError, StopIteration, ValueError):
        return None


def _below_limit() -> int | None:
    """Bytes of addresses that the process has left where somebody set it a limit (ulimit -v)."""
    try:
        import resource  # not on every system

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit == resource.RLIM_INFINITY:
            return None
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        return max(limit - pages * resource.getpagesize(), 0)
    except (ImportError, OSError, ValueError):
        return None
