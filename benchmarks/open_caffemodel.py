"""Times opening a .caffemodel and reaching every blob, next to plain protobuf, and the memory it adds."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # also runs from a checkout that is not installed
    sys.path.insert(0, str(ROOT))

from port.caffemodel import read_caffemodel, write_net  # noqa: E402
from prototxt_gen.base import command  # noqa: E402
from prototxt_gen.base.errors import WeightsError  # noqa: E402
from prototxt_gen.schema.messages import message_class  # noqa: E402

TARGET_MS, TARGET_MB = 50.0, 20.0
REPEATS = 9
MB = 1e6

Shapes = list[tuple[int, ...]]


def resnet101_srn(labels: int = 81) -> Iterator[tuple[str, str, Shapes]]:
    """Name, type, blob shapes of each layer: ResNet-101 with the paper's SRN head (sections 3.1-3.3)."""

    def unit(name: str, inputs: int, outputs: int, kernel: int) -> Iterator[tuple[str, str, Shapes]]:
        yield name, "Convolution", [(outputs, inputs, kernel, kernel)]
        yield f"{name}/bn", "BN", [(1, outputs)] * 4

    yield "data", "Data", []
    yield from unit("conv1", 3, 64, 7)
    yield "conv1/relu", "ReLU", []
    yield "pool1", "Pooling", []
    inputs = 64
    for stage, (blocks, width) in enumerate(((3, 64), (4, 128), (23, 256), (3, 512)), start=2):
        for block in range(blocks):
            name = f"res{stage}_{block}"
            if block == 0:
                yield from unit(f"{name}/shortcut", inputs, 4 * width, 1)
            yield from unit(f"{name}/reduce", inputs, width, 1)
            yield f"{name}/reduce/relu", "ReLU", []
            yield from unit(f"{name}/conv", width, width, 3)
            yield f"{name}/conv/relu", "ReLU", []
            yield from unit(f"{name}/expand", width, 4 * width, 1)
            yield f"{name}/sum", "Eltwise", []
            yield f"{name}/relu", "ReLU", []
            inputs = 4 * width
    yield "pool5", "Pooling", []
    yield "classifier", "InnerProduct", [(labels, 2048), (labels,)]
    for name, shape in (
        ("attention1", (512, 1024, 1, 1)),
        ("attention2", (512, 512, 3, 3)),
        ("attention3", (labels, 1024 // 2, 1, 1)),
        ("confidence", (labels, 1024, 1, 1)),
        ("regularise1", (512, labels, 1, 1)),
        ("regularise2", (512, 512, 1, 1)),
        ("regularise3", (2048, 1, 14, 14)),
    ):
        yield name, "Convolution", [shape, shape[:1]]
    yield "regularised", "InnerProduct", [(labels, 2048), (labels,)]


def make_model(path: str | Path) -> None:
    """Write a .caffemodel of that net with random values, about 186 MB."""
    net = message_class("NetParameter", "srn")(name="ResNet-101-SRN")
    layers = list(resnet101_srn())
    # One pool of values for all blobs keeps this process small.
    largest = max(int(np.prod(shape)) for _, _, shapes in layers for shape in shapes)
    values = np.random.default_rng(0).standard_normal(largest, np.float32)
    bottom = "data"
    for name, kind, _ in layers:
        net.layer.add(name=name, type=kind, bottom=[bottom], top=[name], phase=1)
        bottom = name
    write_net(path, net, [[values[: int(np.prod(s))].reshape(s) for s in shapes] for _, _, shapes in layers])


def open_mapped(path: str) -> object:
    """Every blob's shape and a view of its values."""
    model = read_caffemodel(path)
    return model, [(blob.shape, blob.data) for layer in model.layers for blob in layer.blobs]


def open_parsed(path: str) -> object:
    """The same with protobuf alone: the whole message, then arrays."""
    net = message_class("NetParameter", "srn")()
    net.ParseFromString(Path(path).read_bytes())
    return [
        (tuple(blob.shape.dim), np.array(blob.data, np.float32).reshape(tuple(blob.shape.dim)))
        for layer in [*net.layer, *net.layers]
        for blob in layer.blobs
        if blob.shape.dim
    ]


WAYS: dict[str, Callable[[str], object]] = {"mapped": open_mapped, "protobuf": open_parsed}


def resident() -> float:
    """This process's resident memory in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MB


def peak() -> float:
    """The most resident memory this process has had, in MB."""
    # ru_maxrss would start from the size of the process that started this one
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / MB


def measure(way: str, path: str, repeats: int) -> dict[str, float]:
    """In this process: milliseconds of the first and the median opening, MB that the first one added."""
    message_class("NetParameter", "srn")  # the schema is built once per process, before the clock starts
    opened, times = WAYS[way], []
    before, highest = resident(), peak()
    start = time.perf_counter()
    kept = opened(path)
    times.append(time.perf_counter() - start)
    added = resident() - before
    del kept
    most = max(added, peak() - highest)
    for _ in range(repeats):
        start = time.perf_counter()
        opened(path)
        times.append(time.perf_counter() - start)
    median = statistics.median(times[1:] or times)
    return {"first_ms": 1e3 * times[0], "median_ms": 1e3 * median, "added_mb": added, "peak_mb": most}


def _measure_apart(way: str, path: Path, repeats: int) -> dict[str, float]:
    """`measure` in a process of its own, so that neither way sees the other's memory."""
    arguments = [sys.executable, __file__, "--measure", way, "--repeats", str(repeats), str(path)]
    done = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True, env=dict(os.environ))
    return json.loads(done.stdout)


def compare(path: Path) -> dict[str, dict[str, float]]:
    """Measure both ways on one file and print the table."""
    with read_caffemodel(path) as model:
        blobs = [blob.count for layer in model.layers for blob in layer.blobs]
        print(f"{path.name}: {path.stat().st_size / MB:.1f} MB, {len(model.layers)} layers, {len(blobs)} blobs")
    figures = {way: _measure_apart(way, path, REPEATS if way == "mapped" else 1) for way in WAYS}
    print(f"{'opening, page cache warm':26}{'first ms':>10}{'median ms':>11}{'MB added':>10}{'MB peak':>10}")
    for way, found in figures.items():
        numbers = (found["first_ms"], found["median_ms"], found["added_mb"], found["peak_mb"])
        print(f"{way:26}{numbers[0]:10.1f}{numbers[1]:11.1f}{numbers[2]:10.1f}{numbers[3]:10.1f}")
    mapped = figures["mapped"]
    met = mapped["first_ms"] < TARGET_MS and mapped["added_mb"] < TARGET_MB
    print(f"target: under {TARGET_MS:.0f} ms and {TARGET_MB:.0f} MB, mapped: {'met' if met else 'MISSED'}")
    return figures


def main(path: str | Path | None = None) -> dict[str, dict[str, float]]:
    """Compare on `path`, or on a net made for it; returns way -> first_ms, median_ms, added_mb, peak_mb."""
    if path is not None:
        return compare(Path(path))
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "resnet101_srn.caffemodel"
        make_model(made)
        return compare(made)


def _command(argv: Sequence[str] | None = None) -> int:
    example = "  python benchmarks/open_caffemodel.py\n  python benchmarks/open_caffemodel.py my.caffemodel"
    parser = command.parser("open_caffemodel.py", __doc__ or "", example)
    parser.add_argument("path", nargs="?", help="a .caffemodel; without it, one of 186 MB is made")
    parser.add_argument("--measure", choices=WAYS, help="measure one way here and print JSON")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    arguments = parser.parse_args(argv)
    if arguments.measure:
        if not arguments.path:
            raise WeightsError("--measure needs a path")
        print(json.dumps(measure(arguments.measure, arguments.path, arguments.repeats)))
    else:
        main(arguments.path)
    return command.OK


if __name__ == "__main__":
    sys.exit(command.run(_command))
