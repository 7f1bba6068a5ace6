"""Nets of forks that nobody writes, found by mutation: each is refused in the project's own words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_nets import inputs, layer

import port
from port.graph.reference import run_reference
from port.net import param_arrays
from prototxt_gen.base.errors import NetError
from prototxt_gen.schema.text import parse_prototxt
from verify.parity.golden import read_recording

ROIS = inputs(d=(2, 3, 9, 11), rois=(6, 5))
BOXES = {"loc": (2, 48), "prior": (1, 2, 48), "label": (1, 1, 4, 8)}
LOSS = "multibox_loss_param { num_classes: 4 share_location: true }"
OUTPUT = "detection_output_param { num_classes: 4 share_location: true background_label_id: 0 nms_param { } }"
NETS = {
    "Accum of a map without rows": (
        inputs(a=(1, 2, 0, 4), b=(1, 3, 6, 8)) + layer("y", "Accum", "a b", "y", "accum_param { top_height: 6 }"),
        "a map of 1x2x0x4",
    ),
    "Resample of one": (
        inputs(d=(2, 3, 0, 5))
        + layer("y", "Resample", "d", "y", "resample_param { type: NEAREST height: 9 width: 4294967295 }"),
        "a map of 2x3x0x5",
    ),
    "Resample to more than there can be": (
        inputs(d=(2, 3, 4, 5))
        + layer("y", "Resample", "d", "y", "resample_param { type: NEAREST height: 9 width: 4294967295 }"),
        "2147483647 at most|cells outside",
    ),
    "ROIAlign by no number": (
        ROIS + layer("y", "ROIAlign", "d rois", "y", "roi_align_param { pooled_h: 2 pooled_w: 4 spatial_scale: nan }"),
        "spatial_scale nan",
    ),
    "PriorBox without end": (
        inputs(f=(1, 3, 3, 2), d=(1, 3, 50, 41))
        + layer("y", "PriorBox", "f d", "y", "prior_box_param { min_size: inf min_size: 10 }"),
        "min_size inf, 10",
    ),
    "MultiBoxLoss of a scalar": (
        inputs(**BOXES, all=(2, 48))
        + layer("conf", "Reduction", "all", "conf")
        + layer("y", "MultiBoxLoss", "loc conf prior label", "y", LOSS),
        "an input with 0 axes",
    ),
    "MultiBoxLoss with endless negatives": (
        inputs(**BOXES, conf=(2, 48))
        + layer("y", "MultiBoxLoss", "loc conf prior label", "y", LOSS.replace("true }", "true neg_pos_ratio: inf }")),
        "neg_pos_ratio inf",
    ),
    "DetectionOutput of a scalar": (
        inputs(loc=(2, 48), prior=(1, 2, 48), all=(2, 48))
        + layer("conf", "Reduction", "all", "conf")
        + layer("y", "DetectionOutput", "loc conf prior", "y", OUTPUT),
        "an input with 0 axes",
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_it_is_refused(name):
    text, said = NETS[name]
    with pytest.raises(NetError, match=f"layer 'y'.*({said})"):
        port.load_net(parse_prototxt(text, dialect="+synopsys"))


@pytest.mark.parametrize("threshold", ["-1", "0", "1.5"])
def test_a_box_that_overlaps_nothing_matches_nothing_whatever_the_threshold(threshold):
    case = Path(__file__).parents[3] / "golden" / "community" / "synopsys" / "multibox_loss_0.prototxt"
    text = case.read_text().replace("overlap_threshold: 0.4", f"overlap_threshold: {threshold}")
    fed = read_recording(case).part("in")
    net = port.load_net(parse_prototxt(text), case.with_suffix(".caffemodel"), phase="TRAIN")
    wanted = run_reference(net.caffe, param_arrays(net), fed)["mbox_loss"]
    assert np.isclose(port.run_blobs(net, fed)["mbox_loss"], wanted, rtol=1e-6)


@pytest.mark.parametrize("label", [-1, 4, 0.5])
def test_a_label_that_is_no_class(label):
    """Beside the weights that one fork's Accuracy takes as a third bottom."""
    net = port.load_net(parse_prototxt(inputs(x=(3, 4), l=(3,), w=(3,)) + layer("y", "Accuracy", "x l w", "y")))
    fed = {"x": np.eye(3, 4), "l": np.full(3, label), "w": np.ones(3)}
    if label == 0.5:  # cut to 0, as Caffe does
        assert port.run_blobs(net, fed)["y"] == np.float32(1 / 3)
    else:
        with pytest.raises(NetError, match="label"):
            port.run_blobs(net, fed)
