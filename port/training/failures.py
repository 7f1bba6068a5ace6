"""What went wrong in an iteration, in words that a user can act on."""

from __future__ import annotations

import torch

from prototxt_gen.base.errors import CaffeError, Problem


def understood(error: Exception) -> list[Problem]:
    """The problems behind an error; none for a defect of this program."""
    if isinstance(error, CaffeError):
        return list(error.problems)
    text = str(error).strip().split("\n")[0]
    if "DataLoader worker" in text:
        return [Problem(f"a process that loads data ended: {text}", fix="check the memory, or use --workers 0")]
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in text:
        return [Problem(f"out of memory: {text}", fix="use a smaller batch_size with a larger iter_size")]
    return []
