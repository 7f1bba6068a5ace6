"""Replays recorded cases of real Caffe: forward in the reference, PyTorch and ONNX Runtime, backward in PyTorch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch

from port.graph.build import build_graph
from port.graph.graph import Graph
from port.graph.reference import reference_values
from port.graph.state import NetState
from port.graph.stored import Stored
from port.layers import Misfit
from port.module import CaffeNet, build_module
from port.net import params, run_values
from port.onnx.export import build_onnx
from port.onnx.session import run_onnx, session
from prototxt_gen.base.errors import CaffeError, DataError, Problem
from prototxt_gen.schema import DIALECTS
from prototxt_gen.schema.packs import PACKS
from prototxt_gen.schema.text import read_prototxt

from .cases import find_recorded
from .compare import Comparison, compare

# Relative to the blob's largest value. A good float32 implementation reaches 7e-7 and 2e-6; the rest is
# room for sums in another order.
FORWARD, BACKWARD = 5e-6, 1e-5


@dataclass
class CaseResult:
    """What became of one recorded case."""

    name: str
    types: list[str] = field(default_factory=list)
    comparisons: dict[str, list[Comparison]] = field(default_factory=dict)  # runtime -> comparisons
    error: str = ""

    def __bool__(self) -> bool:
        checked = [c for group in self.comparisons.values() for c in group]
        return not self.error and bool(checked) and all(checked)

    def worst(self, runtime: str) -> float:
        """Largest relative error in a runtime, 0 where it was not compared."""
        return max((c.relative for c in self.comparisons.get(runtime, [])), default=0.0)


@dataclass(frozen=True)
class Recording:
    """A recorded case: its net and what Caffe computed."""

    prototxt: Path
    arrays: dict[str, np.ndarray]
    phase: str
    dialect: str | None

    def part(self, prefix: str) -> dict[str, np.ndarray]:
        """The arrays under a prefix, such as `blob`, by the rest of their name."""
        return {k.partition("/")[2]: v for k, v in self.arrays.items() if k.startswith(prefix + "/")}

    def blobs(self, prefix: str) -> dict[str, dict[int, np.ndarray]]:
        """Arrays named prefix/layer/index, by layer."""
        found: dict[str, dict[int, np.ndarray]] = {}
        for name, array in self.part(prefix).items():
            layer, _, index = name.rpartition("/")
            found.setdefault(layer, {})[int(index)] = array
        return found


def find_cases(folders: list[Path]) -> list[Path]:
    """All recorded cases under some folders: prototxt files with an .npz of the same name; raises DataError."""
    return find_recorded(
        folders, ".prototxt", lambda path: path.with_suffix(".npz").exists(), "NAME.prototxt beside NAME.npz"
    )


def read_recording(prototxt: Path) -> Recording:
    """One recorded case; raises DataError."""
    recording = prototxt.with_suffix(".npz")
    arrays = read_arrays(recording)
    if not any("/" in name for name in arrays):
        found, expected = f"a recording of {', '.join(sorted(arrays)[:6])}", "blob/NAME, in/NAME, param/LAYER/0, ..."
        raise DataError(Problem(found, expected, "for data layers use python -m verify data", file=recording))
    return Recording(prototxt, arrays, *phase_and_dialect(prototxt))


def phase_and_dialect(prototxt: Path) -> tuple[str, str | None]:
    """The first line of a recorded net names the phase, a folder above it the dialect or the fork."""
    first = prototxt.read_text(encoding="utf-8").partition("\n")[0]
    parts = [part.partition("_")[0] for part in reversed(prototxt.parent.parts)]  # srn_more is of the same Caffe
    dialect = next((part for part in parts if part in DIALECTS), None)
    fork = next((f"+{part}" for part in parts if part in PACKS), None)
    return first.partition("phase:")[2].strip() or "TEST", dialect or fork


def read_arrays(source: Any, path: Path | None = None) -> dict[str, np.ndarray]:
    """The arrays of a recording, a file of that path; raises DataError."""
    try:
        with np.load(source, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, KeyError, EOFError, BadZipFile) as error:
        raise DataError(Problem(f"not a readable recording: {error}", file=path or source)) from None


def load_case(recording: Recording, faithful_bugs: bool = False) -> tuple[Graph, CaffeNet]:
    """Graph and torch net of a case, with its recorded parameters and input shapes."""
    parsed = read_prototxt(recording.prototxt, dialect=recording.dialect)
    held = recording.blobs("param")
    stored = Stored({layer: len(blobs) for layer, blobs in held.items()})
    graph = build_graph(parsed, NetState(recording.phase), faithful_bugs, stored=lambda: stored)
    arrays = {(i, j): array for i, node in enumerate(graph.nodes) for j, array in held.get(node.name, {}).items()}
    return graph, build_module(graph, arrays)


def run_case(
    prototxt: Path, *, forward: float = FORWARD, backward: float = BACKWARD, faithful_bugs=False
) -> CaseResult:
    """Replay one case in every runtime; what cannot run is an error of that case, not an exception."""
    result = CaseResult(f"{prototxt.parent.name}/{prototxt.stem}")
    try:
        recording = read_recording(prototxt)
        graph, net = load_case(recording, faithful_bugs)
        result.types = sorted({node.layer.type for node in graph.nodes})
        result.comparisons["reference"] = _reference(graph, recording, forward)
        result.comparisons["onnx"] = _onnx(net, recording, forward)
        result.comparisons["torch"], result.comparisons["gradient"] = _torch(net, recording, forward, backward)
    except (CaffeError, Misfit) as error:
        result.error = str(error)
    except Exception as error:  # a case must not hide the cases after it
        result.error = f"{type(error).__name__}: {error}"
    return result


def _compared(found: np.ndarray | None, expected: np.ndarray, tolerance: float, name: str) -> Comparison:
    """The comparison with what was recorded; what the net does not have has failed."""
    if found is None:
        return Comparison(name, expected.shape, np.inf, 1.0, tolerance, note="not computed")
    return compare(found, expected, tolerance, name, nan=True)


def _forward(found: dict[str, np.ndarray], recording: Recording, tolerance: float) -> list[Comparison]:
    blobs = recording.part("blob").items()
    return [_compared(found.get(name), expected, tolerance, f"blob {name}") for name, expected in blobs]


def _after(found: dict[str, list[np.ndarray]], recording: Recording, tolerance: float) -> list[Comparison]:
    arrays = {f"{layer}[{i}]": array for layer, blobs in found.items() for i, array in enumerate(blobs)}
    return [
        _compared(arrays.get(f"{layer}[{i}]"), expected, tolerance, f"{layer}[{i}] after forward")
        for layer, blobs in recording.blobs("after").items()
        for i, expected in blobs.items()
    ]


def _reference(graph: Graph, recording: Recording, tolerance: float) -> list[Comparison]:
    held = {layer: [blobs[i] for i in sorted(blobs)] for layer, blobs in recording.blobs("param").items()}
    after: dict[str, list[np.ndarray]] = {}
    values = dict(reference_values(graph, held, recording.part("in"), after))
    found = {blob: values[v.name] for blob, v in graph.blobs().items() if v.name in values}
    return _forward(found, recording, tolerance) + _after(after, recording, tolerance)


def _onnx(net: CaffeNet, recording: Recording, tolerance: float) -> list[Comparison]:
    found = run_onnx(session(build_onnx(net, blobs="all")), recording.part("in"))
    blobs = {blob: found[v.name] for blob, v in net.caffe.blobs().items() if v.name in found}
    return _forward(blobs, recording, tolerance)


def _torch(net: CaffeNet, recording: Recording, forward: float, backward: float):
    gradients = recording.part("grad")
    inputs = {
        name: torch.tensor(array, requires_grad=name in gradients) for name, array in recording.part("in").items()
    }
    values = run_values(net, inputs)
    found = {blob: values[v.name] for blob, v in net.caffe.blobs().items() if v.name in values}
    arrays = {blob: tensor.detach().numpy() for blob, tensor in found.items()}
    held = {layer: [b.detach().numpy() for b in blobs] for layer, blobs in params(net).items()}
    checks = _forward(arrays, recording, forward) + _after(held, recording, forward)
    if not gradients and not recording.part("pgrad"):
        return checks, []
    _total(net, values, recording).backward()
    return checks, _gradients(net, inputs, recording, backward)


def _total(net: CaffeNet, values: dict[str, torch.Tensor], recording: Recording) -> torch.Tensor:
    """What backward starts from: weighted losses, and outputs times the gradient that was fed in."""
    tops = [v for node in net.caffe.nodes for v in node.tops]
    total = torch.zeros(())
    for value in tops:
        if value.loss_weight:
            total = total + value.loss_weight * values[value.name].sum()
    seeds = recording.part("topdiff")
    for value in net.caffe.outputs:
        if value.blob in seeds:
            total = total + (values[value.name] * torch.tensor(seeds[value.blob])).sum()
    return total


def _gradients(net: CaffeNet, inputs: dict[str, torch.Tensor], recording: Recording, tolerance: float):
    def array(tensor: torch.Tensor) -> np.ndarray:
        return np.zeros(tensor.shape, np.float32) if tensor.grad is None else tensor.grad.numpy()

    found = {name: array(tensor) for name, tensor in inputs.items()}
    found |= {f"{layer}[{i}]": array(blob) for layer, blobs in params(net).items() for i, blob in enumerate(blobs)}
    recorded = recording.part("grad") | {
        f"{layer}[{i}]": blob for layer, blobs in recording.blobs("pgrad").items() for i, blob in blobs.items()
    }
    return [
        _compared(found.get(name), expected, tolerance, f"gradient of {name}") for name, expected in recorded.items()
    ]


def report(results: list[CaseResult]) -> str:
    """The failures one by one, then the counts and the largest errors."""
    lines = []
    for result in results:
        if not result:
            reasons = [result.error] if result.error else []
            for runtime, group in result.comparisons.items():
                reasons += [f"{runtime}: {c}" for c in group if not c]
            lines += [f"FAILED {result.name}: {reason}" for reason in reasons or ["nothing was compared"]]
    passed = sum(map(bool, results))
    ran = sum(not r.error for r in results)
    lines.append(f"{len(results)} recorded cases, {ran} ran, {passed} passed, {len(results) - passed} failed")
    good = [r for r in results if r]
    for runtime in ("reference", "torch", "onnx", "gradient"):
        if any(r.comparisons.get(runtime) for r in good):
            worst = max(good, key=lambda r: r.worst(runtime))
            count = sum(len(r.comparisons.get(runtime, [])) for r in good)
            what = "backward in torch" if runtime == "gradient" else f"forward in {runtime}"
            lines.append(f"  {what}: {count} arrays, largest relative error {worst.worst(runtime):.1e} ({worst.name})")
    return "\n".join(lines)
