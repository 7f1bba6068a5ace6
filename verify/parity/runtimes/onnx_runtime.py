"""ONNX Runtime, with the file that `export_onnx` writes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from port.onnx.export import build_onnx
from port.onnx.session import run_onnx, session

from .base import Arrays, Job, Runtime


def run(job: Job) -> Arrays:
    """Every value of the net; its outputs from the file as a user would export it."""
    everything = build_onnx(job.net, blobs="all")
    found = run_onnx(session(everything, device=job.device), dict(job.inputs))
    del everything
    return found | run_onnx(session(build_onnx(job.net), device=job.device), dict(job.inputs))


def run_file(path: Path, inputs: Mapping[str, np.ndarray], device: str = "cpu") -> Arrays:
    """The outputs of an ONNX file on disk."""
    return run_onnx(session(onnx.load(path), device=device), dict(inputs))


RUNTIME = Runtime("onnx", 2, run)
