"""The implementations that a net is compared in: the float64 reference, PyTorch, ONNX Runtime, OpenCV."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from port.module import CaffeNet
from port.net import param_arrays, run_values
from port.onnx_export import build_onnx, run_onnx, session
from port.reference import run_reference

Arrays = dict[str, np.ndarray]


def reference(net: CaffeNet, inputs: Mapping[str, np.ndarray]) -> Arrays:
    """Every value in plain float64 NumPy."""
    return run_reference(net.caffe, param_arrays(net), inputs)


def pytorch(net: CaffeNet, inputs: Mapping[str, np.ndarray]) -> Arrays:
    """Every value in PyTorch, float32."""
    import torch

    with torch.no_grad():
        return {name: tensor.numpy() for name, tensor in run_values(net, inputs).items()}


def onnx_runtime(net: CaffeNet, inputs: Mapping[str, np.ndarray], device: str = "cpu") -> Arrays:
    """Every value in ONNX Runtime; the net's outputs from the file as a user would export it."""
    everything = build_onnx(net, blobs="all")
    found = run_onnx(session(everything, device=device), dict(inputs))
    del everything
    return found | run_onnx(session(build_onnx(net), device=device), dict(inputs))


def onnx_file(path: Path, inputs: Mapping[str, np.ndarray], device: str = "cpu") -> Arrays:
    """The outputs of an ONNX file on disk."""
    return run_onnx(session(onnx.load(path), device=device), dict(inputs))


def opencv(net: CaffeNet, prototxt: Path, caffemodel: Path, inputs: Mapping[str, np.ndarray]) -> Arrays:
    """Every value that OpenCV's own Caffe importer gives, read from the original files (one input only)."""
    import cv2

    theirs = cv2.dnn.readNetFromCaffe(str(prototxt), str(caffemodel))
    theirs.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    theirs.enableFusion(False)  # fused layers would not show their own blobs
    if hasattr(theirs, "enableWinograd"):  # from 4.7 on
        theirs.enableWinograd(False)  # its rounding is ten times coarser; the importer is what is compared
    for value in net.caffe.inputs:
        theirs.setInput(np.ascontiguousarray(inputs[value.blob], np.float32), value.blob)
    known = set(theirs.getLayerNames())
    # OpenCV names a layer's only result after the layer
    wanted = [n for n in net.caffe.nodes if n.name in known and len(n.tops) == 1 and n.layer.kind != "data"]
    results = theirs.forward([node.name for node in wanted])
    return {node.tops[0].name: np.array(result) for node, result in zip(wanted, results, strict=True)}
