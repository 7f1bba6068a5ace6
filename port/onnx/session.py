"""ONNX models in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx

from prototxt_gen.base.errors import ExportError, Problem, UsageError

from .export import checked_bytes


def session(model: onnx.ModelProto | str | Path, *, device: str = "cpu", optimise: bool = True) -> Any:
    """An ONNX Runtime session on "cpu" or "cuda"; raises ExportError where CUDA was asked for and is not used."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4  # what it would print, it raises
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    providers = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider"]}
    if device not in providers:
        raise UsageError(f"device '{device}'; expected cpu or cuda")
    source = checked_bytes(model) if isinstance(model, onnx.ModelProto) else str(model)
    try:
        result = ort.InferenceSession(source, options, providers=providers[device])
    except Exception as cause:  # ONNX Runtime raises its own kinds, without a common base
        raise ExportError(f"ONNX Runtime refuses the model: {_first_line(cause)}") from None
    if result.get_providers()[0] != providers[device][0]:
        raise ExportError(f"ONNX Runtime does not run on {device} here: it offers {', '.join(result.get_providers())}")
    return result


def session_of_bytes(data: bytes, folder: Path, file: str | Path = "") -> Any:
    """A session on the CPU, unoptimised, of a serialised model whose external data lies in `folder`; ExportError."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4  # what it would print, it raises
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder.absolute()))
    try:
        # without its fallback, which prints and does the same again
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as cause:  # as in `session`
        raise ExportError(Problem(f"ONNX Runtime refuses the model: {_first_line(cause)}", file=file)) from None


def run_onnx(runner: Any, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
    """All outputs of a session by name; inputs the graph does not use are left out. Raises ExportError."""
    known = {i.name for i in runner.get_inputs()}
    fed = {name: np.asarray(array, np.float32) for name, array in inputs.items() if name in known}
    names = [output.name for output in runner.get_outputs()]
    if not names:
        return {}
    try:
        return dict(zip(names, runner.run(names, fed), strict=True))
    except Exception as cause:  # as above
        raise ExportError(f"ONNX Runtime cannot run the model on these inputs: {_first_line(cause)}") from None


def _first_line(cause: Exception) -> str:
    return str(cause).strip().split("\n")[0]
