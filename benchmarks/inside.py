"""What the benchmarks time, one step per process: python -m benchmarks.inside STEP NET.prototxt prints JSON.

A process that has done a step before would do it faster (imports, thread pools, memory it already has), so
each figure of `run.py` comes from processes that did nothing else first.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

THREADS = 2
WARM_UPS = 2  # the first passes choose kernels and get their memory


def load(prototxt: Path) -> dict[str, Any]:
    """Seconds to import torch and then port, and to load the net with its weights."""
    start = time.perf_counter()
    import torch  # noqa: F401

    imported_torch = time.perf_counter()
    from port import load_net

    imported_port = time.perf_counter()
    load_net(prototxt, prototxt.with_suffix(".caffemodel"))
    done = time.perf_counter()
    return {
        "import_torch_s": imported_torch - start,
        "import_port_s": imported_port - imported_torch,
        "load_s": done - imported_port,
    }


def export(prototxt: Path) -> dict[str, Any]:
    """Seconds of a process's first export, and of writing the same bytes to the same disk without the port."""
    import port
    from prototxt_gen.base.files import atomic_write

    net = port.load_net(prototxt, prototxt.with_suffix(".caffemodel"))
    path = prototxt.with_suffix(".onnx")
    path.unlink(missing_ok=True)
    start = time.perf_counter()
    port.export_onnx(net, path)
    done = time.perf_counter()
    data = path.read_bytes()
    again = time.perf_counter()
    with atomic_write(path) as file:
        file.write(data)
    return {
        "export_s": done - start,
        "disk_s": time.perf_counter() - again,
        "bytes": len(data),
    }


def forward(prototxt: Path, runtime: str, batch: int, passes: int) -> dict[str, Any]:
    """Milliseconds per image of each of some warm passes of a batch of photographs, and the net's output."""
    from port import load_net
    from port.images import sample_images
    from verify.parity.net import net_inputs

    net = load_net(prototxt, prototxt.with_suffix(".caffemodel"))
    inputs, _ = net_inputs(net, sample_images(), batch)
    once = {"torch": _torch, "onnx": _onnx, "opencv": _opencv}[runtime](net, inputs, prototxt)
    for _ in range(WARM_UPS):
        output = once()
    times = []
    for _ in range(passes):
        start = time.perf_counter()
        output = once()
        times.append(1e3 * (time.perf_counter() - start) / batch)
    return {"ms": times, "output": np.asarray(output, np.float64).tolist()}


def _torch(net: Any, inputs: dict[str, np.ndarray], prototxt: Path) -> Callable[[], Any]:
    import torch

    torch.set_num_threads(THREADS)
    blob, tensors = net.caffe.outputs[0].blob, {name: torch.from_numpy(a) for name, a in inputs.items()}

    def once() -> Any:
        with torch.inference_mode():
            return net(**tensors)[blob]

    return once


def _onnx(net: Any, inputs: dict[str, np.ndarray], prototxt: Path) -> Callable[[], Any]:
    import onnxruntime as ort

    from port.onnx.export import build_onnx

    options = ort.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.log_severity_level = 3
    model = build_onnx(net).SerializeToString()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [net.caffe.outputs[0].name]
    return lambda: session.run(names, inputs)[0]


def _opencv(net: Any, inputs: dict[str, np.ndarray], prototxt: Path) -> Callable[[], Any]:
    import cv2

    cv2.setNumThreads(THREADS)
    theirs = cv2.dnn.readNetFromCaffe(str(prototxt), str(prototxt.with_suffix(".caffemodel")))
    output = net.caffe.outputs[0].name
    layer = next(node.name for node in net.caffe.nodes if output in [v.name for v in node.tops])

    def once() -> Any:
        for name, array in inputs.items():
            theirs.setInput(array, name)
        return theirs.forward(layer)

    return once


def main(step: str, prototxt: str, *rest: str) -> None:
    """Do one step and print its figures as JSON."""
    path = Path(prototxt)
    if step == "forward":
        runtime, batch, passes = rest
        figures = forward(path, runtime, int(batch), int(passes))
    else:
        figures = {"load": load, "export": export}[step](path)
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
