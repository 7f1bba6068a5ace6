"""OpenCV's own Caffe importer, which reads the original files: a witness that shares nothing with this project."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from port.graph.graph import Node
from port.layers import Layer
from prototxt_gen.schema.dialect import ADDED_TYPES

from .base import Arrays, Job, Runtime


def run(job: Job) -> Arrays:
    """Every value that OpenCV shows."""
    import cv2

    theirs = cv2.dnn.readNetFromCaffe(str(job.prototxt), str(job.caffemodel))
    theirs.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    theirs.enableFusion(False)  # fused layers would not show their own blobs
    if hasattr(theirs, "enableWinograd"):  # from 4.7 on
        theirs.enableWinograd(False)  # its rounding is ten times coarser; the importer is what is compared
    graph = job.net.caffe
    for value in graph.inputs:
        theirs.setInput(np.ascontiguousarray(job.inputs[value.blob], np.float32), value.blob)
    known = set(theirs.getLayerNames())
    # OpenCV names a layer's only result after the layer
    wanted = [n for n in graph.nodes if n.name in known and len(n.tops) == 1 and n.layer.kind != "data"]
    results = theirs.forward([node.name for node in wanted])
    return {
        node.tops[0].name: _as_caffe_orders(result, node) if node.layer.detects else np.array(result)
        for node, result in zip(wanted, results, strict=True)
    }


def _as_caffe_orders(detections: np.ndarray, node: Node) -> np.ndarray:
    """OpenCV's rows as Caffe writes them: by item, label and falling score, without its padding, -1 where none is."""
    rows = detections.reshape(-1, 7)
    rows = rows[rows[:, 2] > 0]
    rows = rows[np.lexsort((-rows[:, 2], rows[:, 1], rows[:, 0]))]
    if not len(rows):
        items = (node.bottoms[0].shape or (1,))[0]
        rows = np.concatenate([np.arange(items, dtype=np.float32)[:, None], np.full((items, 6), -1, np.float32)], 1)
    return rows[None, None]


def _of_a_user(layer: Layer) -> bool:
    return layer.type in ADDED_TYPES and not layer.pack


def refuses(job: Job) -> str:
    """Why it cannot read a net."""
    import cv2

    if not hasattr(cv2.dnn, "readNetFromCaffe"):  # taken out in 5.0
        return f"OpenCV {cv2.__version__} has no reader of Caffe files; 4.x has"
    if not job.net.caffe.habits.read_by_opencv:
        return "its Caffe importer does not know the fork's layers"
    nodes = job.net.caffe.nodes
    foreign = sorted({node.layer.type for node in nodes if not node.layer.opencv_agrees() or _of_a_user(node.layer)})
    if foreign:
        return f"its Caffe importer does not know the layers {', '.join(foreign)}, or not as the forks compute them"
    detections = {top for node in nodes if node.layer.detects for top in node.tops}
    if any(detections.intersection(node.bottoms) for node in nodes):
        return "a layer reads the detections, which it orders in its own way"
    if not isinstance(job.caffemodel, Path):
        return "it reads one caffemodel file, and none was given"
    return ""


RUNTIME = Runtime("opencv", 3, run, refuses, hides=True)
