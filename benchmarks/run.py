"""Time what a user waits for, on the paper's full-size net in both dialects, against the project's targets."""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # run as a script: the packages lie one folder up, and this folder is no path
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np

from benchmarks.evaluate import evaluating
from benchmarks.rows import Nets, Row, child, sampled, step
from benchmarks.train_rows import feeding, training
from port.images import sample_images
from prototxt_gen.base import command
from prototxt_gen.base.columns import columns
from prototxt_gen.base.errors import CaffeError, Problems, UsageError
from prototxt_gen.base.files import read_text, write_text
from prototxt_gen.nets import configure
from prototxt_gen.nets.write import net_text, output_path, write_net
from prototxt_gen.schema import DIALECTS

NETWORK, PROFILE, WEIGHTS = "ResNet-SRN", "paper", "seed:7"
CORES = 2  # the targets are meant for a small machine
REPEATS = 5
PASSES = {1: 15, 8: 3}  # batch size -> timed forward passes in a process
AGREE = 1e-3  # relative; only to be sure that all runtimes are timed on the same work (OpenCV's Winograd is coarse)

EXAMPLES = """  python benchmarks/run.py
  python benchmarks/run.py load export --folder nets --json figures.json"""


def opening(nets: Nets, repeats: int) -> Iterator[Row]:
    """Opening the caffemodel and reaching every blob: the first time in a process, and what it adds to it."""
    script = Path("benchmarks", "open_caffemodel.py")
    for dialect, prototxt in nets.items():
        model = prototxt.with_suffix(".caffemodel")

        def once(way: str, model: Path = model) -> dict[str, Any]:
            return json.loads(child(script, "--measure", way, "--repeats", 0, model))

        mapped = sampled(lambda once=once: once("mapped"), repeats, first_ms=50)  # type: ignore[misc]
        plain = [once("protobuf") for _ in range(repeats)]
        size = f"of {model.stat().st_size / 1e6:.1f} MB"
        yield Row("open .caffemodel, reach every blob", dialect, "ms", mapped["first_ms"], 50)
        yield Row("  resident memory added", dialect, "MB", mapped["added_mb"], 20, size)
        yield Row("  with plain protobuf", dialect, "ms", [p["first_ms"] for p in plain])
        yield Row("  its resident memory, peak", dialect, "MB", [p["peak_mb"] for p in plain])


def loading(nets: Nets, repeats: int) -> Iterator[Row]:
    """Importing the net with its weights, in a process that has imported torch and port and nothing else."""
    for dialect, prototxt in nets.items():
        found = sampled(lambda p=prototxt: step("load", p), repeats, load_s=2)  # type: ignore[misc]
        yield Row("port.load_net with weights", dialect, "s", found["load_s"], 2)
        yield Row("  before it: import torch", dialect, "s", found["import_torch_s"])
        yield Row("  before it: import port", dialect, "s", found["import_port_s"])


def exporting(nets: Nets, repeats: int) -> Iterator[Row]:
    """Writing the ONNX file for the first time in a process: build, check, write."""
    for dialect, prototxt in nets.items():
        found = sampled(lambda p=prototxt: step("export", p), repeats, export_s=5)  # type: ignore[misc]
        size = f"{found['bytes'][0] / 1e6:.1f} MB, checked"
        yield Row("port.export_onnx", dialect, "s", found["export_s"], 5, size)
        yield Row("  writing the same bytes alone", dialect, "s", found["disk_s"], note="the disk's share, with fsync")


def verifying(nets: Nets, repeats: int) -> Iterator[Row]:
    """The whole command `python -m verify net` on one photograph."""
    image = sample_images()[0]
    for dialect, prototxt in nets.items():

        def once(prototxt: Path = prototxt) -> dict[str, Any]:
            model = prototxt.with_suffix(".caffemodel")
            start = time.perf_counter()
            child("-m", "verify", "net", "--prototxt", prototxt, "--caffemodel", model, "--image", image)
            return {"s": time.perf_counter() - start}

        # long enough that three say as much as five
        found = sampled(once, min(repeats, 3), s=60)
        yield Row("python -m verify net, batch 1", dialect, "s", found["s"], 60, f"passed on {image.name}")


def passing(nets: Nets, repeats: int) -> Iterator[Row]:
    """Forward passes of photographs in every runtime, in turn, so that a busy moment hits all of them."""
    from cv2 import dnn

    for batch, passes in PASSES.items():
        for dialect, prototxt in nets.items():
            runtimes = [
                "torch",
                "onnx",
                *(["opencv"] if dialect == "bvlc" and hasattr(dnn, "readNetFromCaffe") else []),
            ]
            times: dict[str, list[float]] = {runtime: [] for runtime in runtimes}
            outputs: dict[str, np.ndarray] = {}
            for _ in range(min(repeats, 3)):
                for runtime in runtimes:
                    found = step("forward", prototxt, runtime, batch, passes)
                    times[runtime] += found["ms"]
                    outputs[runtime] = np.array(found["output"])
            eager = statistics.median(times["torch"])
            for runtime in runtimes:
                _same(outputs[runtime], outputs["torch"], f"{runtime}, {prototxt.name}, batch {batch}")
                ratio = f"{statistics.median(times[runtime]) / eager:.2f} x torch"
                yield Row(f"forward, batch {batch}, {runtime}", dialect, "ms/image", times[runtime], note=ratio)


def _same(found: np.ndarray, expected: np.ndarray, what: str) -> None:
    if found.shape != expected.shape:
        raise CaffeError(f"{what}: output of shape {found.shape}; expected {expected.shape}")
    error = np.abs(found - expected).max() / np.abs(expected).max()
    if not error <= AGREE:
        raise CaffeError(f"{what}: differs from PyTorch by {error:.1e} of the largest value; expected {AGREE:.0e}")


BENCHMARKS: dict[str, Callable[[Nets, int], Iterator[Row]]] = {
    "open": opening,
    "load": loading,
    "export": exporting,
    "verify": verifying,
    "forward": passing,
    "evaluate": evaluating,
    "train": training,
    "data": feeding,
}


def make_nets(folder: Path) -> Nets:
    """The net with its weights in both dialects; files that are there already and belong to this net are kept."""
    nets = {}
    for dialect in DIALECTS:
        options: dict[str, Any] = {"profile": PROFILE, "dialect": dialect}
        path = output_path(folder / dialect, configure(NETWORK, **options))
        model = path.with_suffix(".caffemodel")
        start = time.perf_counter()
        kept = model.is_file() and path.is_file() and read_text(path) == net_text(NETWORK, **options)
        if not kept:
            write_net(path, NETWORK, weights=WEIGHTS, **options)
        did = "kept" if kept else f"made in {time.perf_counter() - start:.1f} s"
        print(f"{model}: {model.stat().st_size:,} bytes, {did}", flush=True)
        nets[dialect] = path.resolve()
    return nets


def warm(nets: Nets) -> None:
    """Bring the weights into the file cache."""
    for path in nets.values():
        with open(path.with_suffix(".caffemodel"), "rb") as file:
            while file.read(1 << 22):
                pass


def busy() -> tuple[float, float] | None:
    """Core seconds used so far by all processes, and by this one with its finished children; None where unknown."""
    try:
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except OSError:
        return None
    own = os.times()
    idle, waiting = fields[3:5]
    return (sum(fields) - idle - waiting) / os.sysconf("SC_CLK_TCK"), sum(own[:4])


def measure(name: str, nets: Nets, repeats: int) -> list[Row]:
    """The rows of one benchmark, with what other processes did to the machine meanwhile."""
    warm(nets)
    print(f"measuring: {name}", file=sys.stderr, flush=True)
    start, before = time.perf_counter(), busy()
    rows = list(BENCHMARKS[name](nets, repeats))
    after, seconds = busy(), time.perf_counter() - start
    if before and after:
        others = (after[0] - before[0]) - (after[1] - before[1])
        for row in rows:
            row.others = max(0.0, others) / (seconds * (os.cpu_count() or 1))
    return rows


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    versions = {"python": sys.version.split()[0]}
    for package in ("torch", "onnx", "onnxruntime-gpu", "opencv-python", "numpy", "protobuf"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed under this name"
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "cores_used": use_cores(),
        "load_average": [round(x, 2) for x in os.getloadavg()],
        "versions": versions,
    }


def use_cores() -> int:
    """Keep this process and its children to two cores, where the system can; returns how many there are to use."""
    if not hasattr(os, "sched_setaffinity"):
        return os.cpu_count() or 1
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    return len(os.sched_getaffinity(0))


def table(rows: Sequence[Row]) -> str:
    """The rows as text: what, measured, target, met or missed."""
    lines = [("what", "dialect", "median", "unit", "range", "of", "target", "", "others", "")]
    for row in rows:
        spread = f"{_number(min(row.samples))}..{_number(max(row.samples))}"
        verdict = {None: "", True: "met", False: "MISSED"}[row.met]
        target = "" if row.limit is None else f"< {row.limit:g}"
        others = "" if row.others is None else f"{row.others:.0%}"
        cells = (row.what, row.dialect, _number(row.measured), row.unit, spread, str(len(row.samples)), target)
        lines.append((*cells, verdict, others, row.note))
    return "\n".join(columns(lines, right=(2, 4, 5, 6, 8)))


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def arguments() -> ArgumentParser:
    """The command line."""
    parser = command.parser("benchmarks/run.py", __doc__ or "", EXAMPLES)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where the nets go and stay (default: not kept)")
    parser.add_argument("--repeats", type=int, default=REPEATS, help=f"processes per figure (default: {REPEATS})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON as well")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 when every target is met, 1 when one is missed, 2 when a step fails or for bad usage."""
    options = arguments().parse_args(argv)
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        raise UsageError(f"there is no benchmark {', '.join(unknown)}; expected some of: {', '.join(BENCHMARKS)}")
    if options.repeats < 1:
        raise UsageError(f"--repeats {options.repeats}; expected 1 or more")
    about = machine()
    print(f"{about['cpu']}, {about['cores_used']} of {about['cores']} cores used; load average {about['load_average']}")
    print(", ".join(f"{name} {number}" for name, number in about["versions"].items()))
    with tempfile.TemporaryDirectory() if options.folder is None else nullcontext(options.folder) as folder:
        nets = make_nets(Path(folder))
        rows, problems = [], Problems(CaffeError)
        for name in options.names or BENCHMARKS:
            try:
                rows += measure(name, nets, options.repeats)
            except CaffeError as error:  # the others are measured all the same
                problems.found += error.problems
    print(f"\n{table(rows)}\n")
    print("others: the part of the cores that other processes used meanwhile")
    about["load_average_after"] = [round(x, 2) for x in os.getloadavg()]
    if options.json:
        figures = [asdict(row) | {"median": row.measured, "met": row.met} for row in rows]
        write_text(options.json, json.dumps({"machine": about, "figures": figures}, indent=1) + "\n")
    missed = [row for row in rows if row.met is False]
    targets = sum(row.met is not None for row in rows)
    print(f"{targets - len(missed)} of {targets} targets met", flush=True)
    problems.raise_if_any()
    return command.CHECK_FAILED if missed else command.OK


if __name__ == "__main__":
    sys.exit(command.run(main))
