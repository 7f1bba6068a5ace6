"""PyTorch, float32, on the CPU."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from port.module import CaffeNet
from port.net import run_values

from .base import Arrays, Job, Runtime


def run(job: Job) -> Arrays:
    """Every value of the net."""
    return values(job.net, job.inputs)


def values(net: CaffeNet, inputs: Mapping[str, np.ndarray]) -> Arrays:
    """Every value of a net that is loaded already."""
    with torch.no_grad():
        return {name: tensor.numpy() for name, tensor in run_values(net, inputs).items()}


RUNTIME = Runtime("torch", 1, run)
