"""Layer-by-layer parity of a net: every blob of every runtime against the float64 reference."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from port.graph.reference import run_reference
from port.images import load_image
from port.layers import show
from port.module import CaffeNet
from port.net import load_net, param_arrays
from prototxt_gen.base.errors import CaffeError, NetError, Problem

from .compare import Comparison, compare
from .runtimes import Job, Runtime, runtimes

# float32 sums of a net 101 layers deep, each rounded at 6e-8 and added in whatever order a runtime likes;
# measured: 3e-6 at most on the paper's nets
TOLERANCE = 1e-5


@dataclass
class Row:
    """One value of the net and how far each runtime is from the reference."""

    value: str
    layer: str
    type: str
    shape: tuple[int, ...]
    output: bool
    comparisons: dict[str, Comparison] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.comparisons) and all(self.comparisons.values())

    @property
    def worst(self) -> tuple[str, Comparison]:
        """The runtime that is farthest off; a failed comparison before any other."""
        return max(self.comparisons.items(), key=lambda item: (not item[1], item[1].relative))


@dataclass
class NetReport:
    """The comparison of a whole net; true when every blob passed in every runtime."""

    net: str
    dialect: str
    reason: str
    inputs: str
    tolerance: float
    rows: list[Row]
    seconds: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)  # runtime -> why it did not run

    def __bool__(self) -> bool:
        return bool(self.rows) and all(self.rows)

    @property
    def runtimes(self) -> list[str]:
        """The runtimes that ran, in the order of the columns."""
        return [name for name in runtimes() if any(name in row.comparisons for row in self.rows)]

    @property
    def first_divergent(self) -> Row | None:
        """The first value, in topological order, that a runtime gets wrong."""
        return next((row for row in self.rows if not row), None)

    def worst(self, runtime: str, outputs: bool = False) -> tuple[str, Comparison] | None:
        """Value and comparison of the largest relative error in a runtime."""
        rows = [r for r in self.rows if runtime in r.comparisons and (r.output or not outputs)]
        best = max(rows, key=lambda r: (not r.comparisons[runtime], r.comparisons[runtime].relative), default=None)
        return (best.value, best.comparisons[runtime]) if best is not None else None  # a row that failed is false


def net_inputs(net: CaffeNet, images: list[Path], batch: int) -> tuple[dict[str, np.ndarray], str]:
    """Inputs for a net from photographs, and a line that says what they are; raises NetError, DataError.

    The first input with 3 channels gets the photographs; a batch larger than their number repeats them
    mirrored, then upside down, so that no two entries are alike. Other inputs get random numbers.
    """
    inputs: dict[str, np.ndarray] = {}
    said: list[str] = []
    random = np.random.RandomState(0)
    for value in net.caffe.inputs:
        shape = value.shape
        if not shape:
            raise NetError(Problem(f"the input '{value.blob}' has no shape", file=net.caffe.file))
        if len(shape) == 4 and shape[1] == 3 and images and not any("photograph" in s for s in said):
            inputs[value.blob] = _photographs(images, batch, shape[2], shape[3])
            said.append(
                f"{value.blob} {show(inputs[value.blob].shape)} photographs: " + ", ".join(p.name for p in images)
            )
        else:
            inputs[value.blob] = random.standard_normal((batch, *shape[1:])).astype(np.float32)
            said.append(f"{value.blob} {show(inputs[value.blob].shape)} random")
    return inputs, "; ".join(said)


def _photographs(images: list[Path], batch: int, height: int, width: int) -> np.ndarray:
    loaded = [load_image(path, height, width) for path in images]
    turns: list[Callable[[Any], Any]] = [
        lambda x: x,
        lambda x: x[:, :, ::-1],
        lambda x: x[:, ::-1],
        lambda x: x[:, ::-1, ::-1],
    ]
    entries = [turns[i // len(loaded) % 4](loaded[i % len(loaded)]) for i in range(batch)]
    return np.ascontiguousarray(np.stack(entries), np.float32)


def verify_net(
    prototxt: Path,
    caffemodel: Path | str | None,
    *,
    images: list[Path] | None = None,
    batch: int = 1,
    dialect: str | None = None,
    tolerance: float = TOLERANCE,
    device: str = "cpu",
    net: CaffeNet | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> NetReport:
    """Run a net in every runtime and compare all its blobs with the float64 reference (`net`: already loaded)."""
    net = net or load_net(prototxt, caffemodel, dialect=dialect)
    inputs, said = net_inputs(net, images or [], batch)
    report = NetReport(net.caffe.name, net.caffe.dialect, net.caffe.reason, said, tolerance, _rows(net))
    progress("float64 reference")
    start = time.perf_counter()
    expected = run_reference(net.caffe, param_arrays(net), inputs)
    report.seconds["reference"] = time.perf_counter() - start
    job = Job(net, prototxt, caffemodel, inputs, device)
    for name, runtime in runtimes().items():
        if why := runtime.refuses(job):
            report.left_out[name] = why
            continue
        progress(name)
        start = time.perf_counter()
        try:
            found = runtime.run(job)
        except CaffeError:
            raise
        except Exception as error:  # OpenCV and ONNX Runtime throw whatever they like
            raise NetError(Problem(f"{name} cannot run the net: {str(error).strip()[:300]}", file=prototxt)) from None
        report.seconds[name] = time.perf_counter() - start
        compare_values(report, runtime, found, expected)
    return report


def _rows(net: CaffeNet) -> list[Row]:
    outputs = {v.name for v in net.caffe.outputs}
    return [
        Row(v.name, node.name, node.layer.type, v.shape or (), v.name in outputs)
        for node in net.caffe.nodes
        if node.layer.kind != "data"
        for v in node.tops
    ]


def compare_values(
    report: NetReport, runtime: Runtime, found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]
) -> None:
    """Enter one runtime's comparison into the report; one that hides inner blobs may lack those, never an output."""
    for row in report.rows:
        if row.value in found:
            row.shape = expected[row.value].shape
            row.comparisons[runtime.name] = compare(found[row.value], expected[row.value], report.tolerance, row.value)
        elif row.output or not runtime.hides:
            row.comparisons[runtime.name] = Comparison(
                row.value, expected[row.value].shape, np.inf, 1.0, report.tolerance, note="not computed"
            )
