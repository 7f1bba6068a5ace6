"""Where exports say they came from: digests of the files that were read, never of others."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import zipfile

import onnx
import pytest
from safetensors import safe_open
from small_nets import fully, inputs

import port
from port.__main__ import main
from port.onnx.export import build_onnx
from port.weights.sources import CHANGED, NONE, provenance
from prototxt_gen.base.command import run


@pytest.fixture
def files(tmp_path):
    text, weights = tmp_path / "n.prototxt", tmp_path / "w.caffemodel"
    text.write_text(inputs(data=(2, 3)) + fully("f", "data", "y", 5))
    port.save_caffemodel(port.load_net(text, seed=4), weights)
    return text, weights


def sha(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def facts_of(model) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def test_an_onnx_file_says_where_it_came_from(files, tmp_path):
    text, weights = files
    net = port.load_net(text, weights, dialect="bvlc")
    port.export_onnx(net, tmp_path / "n.onnx", opset=18)
    facts = facts_of(onnx.load(tmp_path / "n.onnx"))
    assert facts["caffe_prototxt"] == "n.prototxt" and facts["caffe_prototxt_sha256"] == sha(text)
    assert facts["caffe_caffemodel"] == "w.caffemodel" and facts["caffe_caffemodel_sha256"] == sha(weights)
    assert facts["caffe_dialect"] == "bvlc" and facts["caffe_packs"] == NONE and facts["caffe_phase"] == "TEST"
    assert facts["opset"] == "18" and facts["onnx_version"] == onnx.__version__
    assert facts["torch_version"] and facts["caffe-srn_version"]
    assert str(tmp_path) not in str(facts)  # names of files, not of somebody's folders
    assert facts_of(build_onnx(pickle.loads(pickle.dumps(net)))) == facts | {"opset": "17"}


def test_several_files_filled_weights_and_weights_loaded_later(files, tmp_path):
    text, weights = files
    other = tmp_path / "x.caffemodel"
    port.save_caffemodel(port.load_net(text, seed=5), other)
    facts = provenance(port.load_net(text, f"{weights},{other}"))
    assert facts["caffe_caffemodel_sha256"] == f"{sha(weights)},{sha(other)}" and sha(weights) != sha(other)
    net = port.load_net(text)
    assert provenance(net)["caffe_caffemodel_sha256"] == provenance(net)["caffe_caffemodel"] == NONE
    port.load_weights(net, other)
    assert provenance(net)["caffe_caffemodel_sha256"] == sha(other)


@pytest.mark.parametrize("change", ["other bytes", "gone"])
def test_a_file_that_changed_since_has_no_digest(files, change):
    text, weights = files
    net = port.load_net(text, weights)
    if change == "gone":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[::-1])
        os.utime(weights, ns=(1, 1))
    assert provenance(net)["caffe_caffemodel_sha256"] == CHANGED
    assert provenance(net)["caffe_prototxt_sha256"] == sha(text)


def test_arrays_say_it_too_and_the_same_way_every_time(files, tmp_path):
    _, weights = files
    for name in ("a.safetensors", "b.safetensors", "a.npz"):
        assert run(main, ["export", "--caffemodel", str(weights), "--output", str(tmp_path / name)]) == 0
    with safe_open(tmp_path / "a.safetensors", "np") as file:
        facts = file.metadata()
        assert sorted(file.keys()) == ["f/0", "f/1"]
    assert facts["caffe_caffemodel_sha256"] == sha(weights) and facts["format"] == "caffe"
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    comment = json.loads(zipfile.ZipFile(tmp_path / "a.npz").comment)
    assert comment["caffe_caffemodel_sha256"] == sha(weights) and comment["caffe-srn_version"]
