"""The generator as a library: data sets, heads and profiles of one's own, and the text that explains them."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import port
import prototxt_gen
from prototxt_gen.base.errors import UsageError
from prototxt_gen.nets import DATASETS, NETWORKS, PROFILES
from prototxt_gen.nets.networks import MAIN_NET
from prototxt_gen.nets.verbs import conv_relu, fully_connected

DOCS = Path(__file__).resolve().parents[2] / "docs" / "generator.md"


@pytest.fixture(autouse=True)
def as_before():
    """Leave the lists of data sets, networks and profiles as they were."""
    kept = [(known, dict(known)) for known in (DATASETS, NETWORKS, PROFILES)]
    yield
    for known, before in kept:
        known.clear()
        known.update(before)


def pooled_maps(net, config, main):
    net.section("Pooled maps", part="pooled maps")
    x = conv_relu(net, "maps_conv", main.X, 16, 1)
    x = net.Pooling("maps_pool", x, pool="AVE", global_pooling=True)
    fully_connected(net, "maps_fc", x, config.classes, top="y")


def own_network(**changes):
    name = changes.pop("name", "ResNet-101-maps")
    alone = prototxt_gen.Step(2, "maps", "the new head", name, pooled_maps, ("pooled maps",), ("y",))
    steps = changes.pop("steps", (MAIN_NET, alone))
    return prototxt_gen.Network(name, "maps", "with pooled maps", steps, pooled_maps, **changes)


def test_a_data_set_of_ones_own(tmp_path):
    prototxt_gen.add_dataset(prototxt_gen.DataSet("voc2007", "PASCAL VOC 2007", 20, 5_011, 4_952))
    paths = prototxt_gen.write_training(tmp_path, "ResNet-SRN", "voc2007", dialect="srn", gpus=1)
    names = {path.name for path in paths}
    assert {"voc2007_resnet101_srn_test.prototxt", "run_train_voc2007.sh", "run_test_voc2007.sh"} <= names
    solver = (tmp_path / "step_1_resnet101_solver.prototxt").read_text()
    assert "# stepsize: 10 epochs x 5,011 / 96 = 522 iterations at each rate" in solver and "iter_size: 4" in solver
    net = (tmp_path / "step_3_resnet101_srn_trainval.prototxt").read_text()
    assert "for PASCAL VOC 2007 (20 labels)" in net and 'source: "datasets/voc2007/voc2007_train_label_lmdb"' in net


def test_a_head_of_ones_own_is_written_and_runs(tmp_path):
    prototxt_gen.add_network(own_network())
    builder = prototxt_gen.build_net(prototxt_gen.configure("ResNet-101-maps", dialect="bvlc", step=2))
    moving = [layer.name for layer in builder.layers() if layer.type == "Convolution" and not layer.param]
    assert moving == ["maps_conv"] and builder.outputs("TRAIN") == ["loss"]
    path = tmp_path / "maps.prototxt"
    path.write_text(prototxt_gen.net_text("ResNet-101-maps", "wider_att", dialect="srn", width_divisor=64))
    net = port.load_net(path)
    blobs = port.run_blobs(net, {"data": np.zeros((1, 3, 224, 224), np.float32)})
    assert blobs["y"].shape == (1, 14) and blobs["maps_pool"].shape == (1, 16, 1, 1)
    files = prototxt_gen.training_files("ResNet-101-maps", "coco", dialect="srn")
    assert {"coco_maps_test.prototxt", "step_2_maps_solver.prototxt"} <= set(files)
    assert "Trained: pooled maps; fixed" in files["step_2_maps_trainval.prototxt"]


def test_a_profile_of_ones_own():
    paper = PROFILES["paper"]
    prototxt_gen.add_profile(replace(paper, name="cautious", about="the main net's loss as well", joint=("y", "y_cls")))
    config = prototxt_gen.configure("ResNet-SRN", profile="cautious", dialect="srn", step=4)
    assert prototxt_gen.build_net(config).outputs("TRAIN") == ["loss", "loss_cls"]
    assert "Profile cautious: the main net's loss as well." in prototxt_gen.net_text("ResNet-SRN", profile="cautious")


@pytest.mark.parametrize(
    ("add", "messages"),
    [
        (
            lambda: prototxt_gen.add_dataset(prototxt_gen.DataSet("coco", "again", 0, 3, 0)),
            [
                "there is a data set 'coco' already. Choose another name",
                "data set 'coco': classes is 0; expected 1 or more",
                "data set 'coco': test_images is 0; expected 1 or more",
            ],
        ),
        (
            lambda: prototxt_gen.add_dataset(prototxt_gen.DataSet("a/b", "slash", 2, 3, 4)),
            ["the name 'a/b' of a data set; expected letters, digits and any of _ . + - (it names files)"],
        ),
        (
            lambda: prototxt_gen.add_network(own_network(name="ResNet-SRN")),
            ["there is a network 'ResNet-SRN' already. Choose another name"],
        ),
        (
            lambda: prototxt_gen.add_network(own_network(steps=(replace(MAIN_NET, number=2, network="nobody"),))),
            [
                "network 'ResNet-101-maps' has steps [2]; expected steps 1, 2, ... in order",
                "step_2_resnet101 belongs to network 'nobody'; expected 'ResNet-101-maps' or a network that is known",
            ],
        ),
        (
            lambda: prototxt_gen.add_profile(PROFILES["paper"]),
            ["there is a profile 'paper' already. Choose another name"],
        ),
    ],
)
def test_what_cannot_be_added(add, messages):
    with pytest.raises(UsageError) as error:
        add()
    assert [str(problem) for problem in error.value.problems] == messages


def test_a_head_that_makes_no_logits_is_refused():
    network = own_network()
    wrong = replace(network.steps[1], losses=("y_sr",))
    prototxt_gen.add_network(replace(network, steps=(MAIN_NET, wrong)))
    with pytest.raises(UsageError, match=r"step_2_maps trains on 'y_sr', which its net does not make; expected one of"):
        prototxt_gen.net_text("ResNet-101-maps", step=2)


def test_parts_that_do_not_exist_are_refused():
    network = own_network()
    wrong = replace(network.steps[1], trained=("pooled map",))
    prototxt_gen.add_network(replace(network, steps=(MAIN_NET, wrong)))
    with pytest.raises(UsageError, match=r"trains the part 'pooled map', which its net does not have.*'pooled maps'"):
        prototxt_gen.net_text("ResNet-101-maps", step=2)


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", blocks(), ids=["data set", "head"])
def test_the_examples_of_the_docs_run(block, tmp_path):
    result = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert list(tmp_path.rglob("*_test.prototxt")) and list(tmp_path.rglob("*solver.prototxt"))


def test_the_docs_name_every_network_and_profile():
    text = DOCS.read_text(encoding="utf-8")
    assert all(name in text for name in (*NETWORKS, *PROFILES))
    assert "738 files" in text
