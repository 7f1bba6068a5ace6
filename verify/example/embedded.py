"""The built-in example: the trained miniatures in a table like the paper's; then the paper's nets at full size,
with seeded weights, on photographs, every blob compared in every runtime.

The first shows the whole way from images to a table, the second proves that the port computes what Caffe's
rules say for the paper's net. Neither can say anything about the paper's figures: those need the trained weights
and MS-COCO.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import cv2
import numpy as np
import onnx
import onnxruntime
import torch

from port.graph.count import Size, part_sizes, total
from port.images import load_image, sample_images
from port.module import CaffeNet
from port.net import load_net
from port.onnx.export import export_onnx
from prototxt_gen.base.columns import columns
from prototxt_gen.base.command import CHECK_FAILED, OK
from prototxt_gen.base.files import write_text
from prototxt_gen.nets import build_net, configure
from prototxt_gen.nets.write import write_net
from prototxt_gen.paper import Claims
from prototxt_gen.schema import DIALECTS
from reference_weights.miniatures.models import models

from ..parity.compare import Comparison, compare
from ..parity.net import TOLERANCE, NetReport, net_inputs, verify_net
from ..parity.runtimes import onnx_runtime, pytorch
from ..parity.text import net_summary, net_table
from . import miniatures
from .sources import package_digest

SEED = 7
SHOWN = ("ResNet-101", "ResNet-SRN")  # written; the last one is compared
BATCHES = (1, 3)
HEAD = ("attention", "confidence", "regularization")


def run(image: Path | None = None, output: Path | None = None) -> int:
    """Run the example; files go to `output` (default: out/ in the current folder). Exit status 0 when all passed.

    What is there from an earlier run, computed from the same files by the same code and libraries, is not
    computed again.
    """
    folder = output or Path("out")
    images = [image] if image else sample_images()
    for path in images:
        load_image(path, 1, 1)  # one that cannot be read is refused before the work, not after it
    start = time.perf_counter()
    shown = models()
    found, labels = miniatures.results(folder / "miniatures", shown)
    minutes = {model.name: model.minutes for model in shown}
    page = miniatures.report(found, labels, minutes)
    write_text(folder / "miniatures.txt", page + "\n")
    print(f"\n{page}\n\nThe paper's nets at full size, with seeded weights, on photographs:\n", flush=True)
    status = kept_or_run(folder / "proof.json", images, lambda: _prove(folder, images))
    print(f"\n{time.perf_counter() - start:.0f} s in all; files in {folder}/")
    return status


def kept_or_run(record: Path, images: list[Path], prove: Callable[[], tuple[int, str]]) -> int:
    """Print what a proof printed when nothing has changed since it passed; else run it, and keep it if it passes."""
    libraries = [f"{module.__name__} {module.__version__}" for module in (torch, onnx, onnxruntime, cv2, np)]
    parts = [package_digest(), *libraries, *(hashlib.sha256(path.read_bytes()).hexdigest() for path in images)]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    if kept := _kept(record, key):
        print(
            f"{kept}\n(as proved before: since then neither code nor libraries nor images have changed; without"
            f" {record} it is proved again)"
        )
        return OK
    status, text = prove()
    if status == OK:
        write_text(record, json.dumps({"key": key, "text": text}) + "\n")
    return status


def _kept(record: Path, key: str) -> str:
    try:
        about = json.loads(record.read_text(encoding="utf-8"))
        return about["text"] if about["key"] == key else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


class _Copied(io.StringIO):
    """Prints to a stream, and keeps what was printed."""

    def __init__(self, stream: TextIO):
        super().__init__()
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write(text)
        return super().write(text)

    def flush(self) -> None:
        self.stream.flush()


def _prove(folder: Path, images: list[Path]) -> tuple[int, str]:
    """Write, run, export and compare the nets; the exit status and what was printed."""
    reports, exports = [], []
    with contextlib.redirect_stdout(_Copied(sys.stdout)) as copied:
        for dialect in DIALECTS:
            for network in SHOWN:
                written = write_net(folder / dialect, network, dialect=dialect, weights=f"seed:{SEED}")
                print(f"{network}, dialect {dialect}: {written.path}, {written.layers} layers\n  {written.weights}")
            print(flush=True)
            prototxt = written.path
            net = load_net(prototxt, prototxt.with_suffix(".caffemodel"))
            for batch in BATCHES:
                reports.append(_compare(net, prototxt, images, batch))
            exports.append(_export(net, prototxt.with_suffix(".onnx"), images))
        print(f"{_sizes()}\n")
        status = _verdict(reports, exports)
    return status, copied.getvalue().rstrip()


def _compare(net: CaffeNet, prototxt: Path, images: list[Path], batch: int) -> NetReport:
    """All blobs of one net at one batch size in all runtimes; the whole table goes to a file."""
    caffemodel = prototxt.with_suffix(".caffemodel")
    report = verify_net(prototxt, caffemodel, images=images[:batch], batch=batch, net=net)
    table = prototxt.with_name(f"{prototxt.stem}_batch{batch}.txt")
    write_text(table, net_table(report) + "\n")
    print(f"{report.net}, dialect {report.dialect}, batch {batch}; input {report.inputs}")
    if not report:
        print(net_table(report, every=False))
    else:
        print("\n".join(f"  {line}" for line in net_summary(report)))
    for runtime, why in report.left_out.items():
        print(f"  {runtime} left out: {why}")
    print(f"  every blob: {table}\n", flush=True)
    return report


def _export(net: CaffeNet, path: Path, images: list[Path]) -> list[Comparison]:
    """The ONNX file as a user gets it: read back, checked, and run at both batch sizes."""
    start = time.perf_counter()
    export_onnx(net, path)
    seconds = time.perf_counter() - start
    onnx.checker.check_model(str(path), full_check=True)
    comparisons = []
    for batch in BATCHES:
        inputs, _ = net_inputs(net, images[:batch], batch)
        found, expected = onnx_runtime.run_file(path, inputs), pytorch.values(net, inputs)
        comparisons += [compare(found[v.name], expected[v.name], TOLERANCE, v.blob) for v in net.caffe.outputs]
    worst = max(c.relative for c in comparisons)
    print(f"{path}: written in {seconds:.1f} s, checked; from the file, batch 1 and 3, against PyTorch: {worst:.1e}\n")
    return comparisons


def _sizes() -> str:
    """Parameters and multiply-adds of each net, per part, next to the paper's claims."""
    rows: list[tuple[str, ...]] = [("net", "part", "parameters", "statistics", "multiply-adds")]
    sizes: dict[str, dict[str, Size]] = {}
    for network in SHOWN:
        config = configure(network, dialect=DIALECTS[1])
        parts = build_net(config).parts
        net = load_net_graph(network)
        sizes[network] = part_sizes(net, parts)
        for part, size in [*sizes[network].items(), ("all", total(sizes[network].values()))]:
            if size != Size():
                rows.append(
                    (
                        network,
                        part,
                        *(f"{n:,}" for n in (size.parameters, size.statistics, size.multiply_adds)),
                    )
                )
    head = total(size for part, size in sizes["ResNet-SRN"].items() if part in HEAD)
    main = total(sizes["ResNet-101"].values())
    claims = Claims()
    return "\n".join(
        [
            *columns(rows, right=(2, 3, 4)),
            f"the paper says the SRN adds about {claims.head:,} parameters: its text gives {head.parameters:,}",
            f"the paper says ResNet-101 has about {claims.main_net:,} parameters: {main.parameters:,}",
        ]
    )


def load_net_graph(network: str):
    """The graph of a generated net, from its text."""
    from port.graph.build import build_graph
    from port.graph.state import NetState
    from prototxt_gen.nets.write import net_text
    from prototxt_gen.schema.text import parse_prototxt

    return build_graph(parse_prototxt(net_text(network, dialect=DIALECTS[1]), file=network), NetState())


def _verdict(reports: list[NetReport], exports: list[list[Comparison]]) -> int:
    passed = all(reports) and all(c for group in exports for c in group)
    worst = max(c.relative for r in reports for row in r.rows for c in row.comparisons.values())
    blobs = sum(len(r.rows) for r in reports)
    if not passed:
        print("NOT PROVED: some blobs differ, see above.")
        return CHECK_FAILED
    print(
        f"Proved: {blobs:,} blobs of the paper's full-size net equal the float64 reference of Caffe's rules to "
        f"{worst:.1e} of their largest value. Not proved: the paper's figures, which take the trained weights "
        "and MS-COCO."
    )
    return OK
