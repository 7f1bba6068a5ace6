"""OpenCV's own Caffe importer, which reads the original files: a witness that shares nothing with this project."""

from __future__ import annotations

from pathlib import Path

import numpy as np

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
    return {node.tops[0].name: np.array(result) for node, result in zip(wanted, results, strict=True)}


def refuses(job: Job) -> str:
    """Why it cannot read a net."""
    if not job.net.caffe.habits.read_by_opencv:
        return "its Caffe importer does not know the fork's layers"
    foreign = sorted({node.layer.type for node in job.net.caffe.nodes} & ADDED_TYPES.keys())
    if foreign:
        return f"its Caffe importer does not know the layers {', '.join(foreign)}"
    if not isinstance(job.caffemodel, Path):
        return "it reads one caffemodel file, and none was given"
    return ""


RUNTIME = Runtime("opencv", 3, run, refuses, hides=True)
