"""The generated nets in the port: forward in both phases, one step of the solver, weights from step to step."""

from __future__ import annotations

import shlex
from functools import cache
from itertools import islice

import cv2
import numpy as np
import pytest
import torch
from generated import (
    CLASSES,
    NETWORKS,
    PROFILES,
    SHAPES,
    SPATIAL,
    VARIANTS,
    batch,
    builder,
    miniature,
    own_steps,
    settle,
    step_of,
)

import port
from port.__main__ import main
from port.data import open_data
from port.graph.count import measure
from port.net import param_arrays
from prototxt_gen.nets import at_step, configure
from prototxt_gen.nets.solver import solver_text
from prototxt_gen.nets.write import net_text

# Every net once; both dialects of each are among the slow tests.
DEFAULT = [("paper", "srn"), ("postact", "bvlc"), ("released", "srn")]


def each(default: list[tuple[str, str]]):
    """All profiles and dialects, those outside `default` only with --slow."""
    marks = [pytest.param(*pair, marks=() if pair in default else pytest.mark.slow) for pair in VARIANTS]
    return pytest.mark.parametrize(("profile", "dialect"), marks)


@pytest.fixture(autouse=True)
def one_thread():
    """Layers with one channel: threads would only wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("network", NETWORKS)
@each(DEFAULT)
def test_test_nets_run(network, profile, dialect, tmp_path):
    net = port.load_net(miniature(tmp_path, network, profile, dialect))
    settle(net)
    with torch.no_grad():
        outputs = net(data=torch.from_numpy(batch()["data"]))
    (logits,) = outputs.values()
    assert logits.shape == (2, CLASSES) and torch.isfinite(logits).all()
    assert (logits[0] != logits[1]).any(), "the image matters"


@pytest.mark.parametrize(("network", "step"), own_steps())
@each(DEFAULT)
def test_a_step_moves_its_layers_and_no_others(network, step, profile, dialect, tmp_path):
    path = miniature(tmp_path, network, profile, dialect, step)
    net = port.load_net(path, phase="TRAIN", input_shapes=SHAPES)
    settle(net)
    config = configure(network, profile=profile, dialect=dialect, classes=CLASSES, width_divisor=32)
    solver_path = tmp_path / "solver.prototxt"
    solver_path.write_text(solver_text(at_step(config, step_of(network, step))))
    solver = port.load_solver(solver_path, net)
    before = param_arrays(net)
    loss = solver.step(batch())
    assert np.isfinite(loss) and loss > 0
    after = param_arrays(net)
    moved = [name for name in before if any((a != b).any() for a, b in zip(before[name], after[name], strict=True))]
    fixed = {layer.name for layer in net.caffe.net.layer if layer.param}
    assert moved == [name for name in before if name not in fixed]
    for name in fixed:
        blobs = port.params(net)[name]
        assert all(blob.grad is None or not blob.grad.any() for blob in blobs), f"{name} gets no gradient"
    grads = [blob.grad for name in moved for blob in port.params(net)[name] if blob.requires_grad]
    assert grads and all(grad is not None for grad in grads)


@pytest.mark.parametrize(("network", "step"), own_steps())
@each([("released", "bvlc")])
def test_the_test_phase_of_train_val_nets_runs(network, step, profile, dialect, tmp_path):
    net = port.load_net(miniature(tmp_path, network, profile, dialect, step), phase="TEST", input_shapes=SHAPES)
    settle(net)
    with torch.no_grad():
        outputs = net(**{name: torch.from_numpy(value) for name, value in batch().items()})
    assert all(name.startswith("loss") and value.shape == () for name, value in outputs.items())
    assert all(torch.isfinite(value) for value in outputs.values())


NEW = {
    ("ResNet-101-semantic", 2): {"semantic"},
    ("ResNet-SRN", 2): {"attention", "confidence"},
    ("ResNet-SRN", 3): {"regularization"},
    ("ResNet-SRN-att", 2): {"attention", "confidence"},
    ("ResNet-SRN-att", 3): {"regularization"},
}


@pytest.mark.parametrize("network", [name for name, network in NETWORKS.items() if len(network.steps) > 1])
@each([("released", "bvlc")])
def test_each_step_loads_the_one_before(network, profile, dialect, tmp_path):
    """By layer name, with nothing missing but the new parts; the test net takes the last weights."""
    weights = None
    for step in NETWORKS[network].steps:
        owner = step.network
        parts = parts_of(owner, profile, dialect, step.number)
        path = miniature(tmp_path, owner, profile, dialect, step.number)
        net = port.load_net(path, weights, phase="TRAIN", input_shapes=SHAPES, strict=False, seed=step.number)
        if weights is not None:
            new = NEW.get((network, step.number), set())
            assert {parts[name] for name in net.report.missing} == new, step.stem
            assert set(net.report.missing) == {name for name in port.params(net) if parts[name] in new}
            assert not net.report.unused
        weights = tmp_path / f"{step.stem}.caffemodel"
        port.save_caffemodel(net, weights)
    test = port.load_net(miniature(tmp_path, network, profile, dialect), weights)
    assert not test.report.missing
    gone = {parts[name] for name in test.report.unused}
    # f_sr reads A itself there, so the confidence only served y_att
    assert gone == ({"confidence"} if network == "ResNet-SRN-att" else set())


@cache
def parts_of(network: str, profile: str, dialect: str, step: int) -> dict[str, str]:
    """Layer -> part of a train_val net."""
    return builder(network, profile, dialect, step, classes=CLASSES).parts


def test_the_data_layers_read_what_the_header_says(tmp_path, monkeypatch):
    """Databases made as the header tells, at the place it names: images and labels in step, cropped, less the mean."""
    monkeypatch.chdir(tmp_path)
    greys = [10, 60, 110, 160, 210]
    (tmp_path / "images").mkdir()
    for i, grey in enumerate(greys):
        cv2.imwrite(f"images/{i}.png", np.full((40 + i, 70, 3), grey, np.uint8))
    (tmp_path / "list.txt").write_text("".join(f"{i}.png 1\n" for i in range(5)))
    np.savetxt("labels.txt", np.eye(5), fmt="%d")
    text = net_text("ResNet-SRN", dialect="srn", step=2, classes=CLASSES, width_divisor=64, gpus=48)
    words = "python -m port lmdb create --resize 256x256 --shuffle SEED --labels FILE"
    assert words in text.partition("name:")[0].replace("\n#  ", "")
    for split in ("train", "test"):
        place = f"datasets/coco/coco_{split}"
        options = ["--images", "list.txt", "--root", "images", "--output", f"{place}_image_lmdb"]
        options += ["--label-output", f"{place}_label_lmdb"]
        line = shlex.split(words.replace("SEED", "3").replace("FILE", "labels.txt"))[3:]
        assert main([*line, *options]) == 0
    (tmp_path / "net.prototxt").write_text(text)
    net = port.load_net("net.prototxt", phase="TRAIN")
    assert {value.blob: value.shape for value in net.caffe.inputs} == {"data": (2, 3, 224, 224), "label": (2, 5, 1, 1)}
    images, labels = (open_data(net.caffe.node(name).message, "TRAIN", "srn", seed=4) for name in ("data", "label"))
    seen = set()
    for image, label in islice(zip(images.batches(), labels.batches(), strict=True), 6):
        for pixels, row in zip(image["data"], label["label"], strict=True):
            (which,) = np.flatnonzero(row)
            seen.add(which)
            # blue, green, red; one grey stays itself under every crop, scale and flip
            assert [np.unique(channel).tolist() for channel in pixels] == [[greys[which] - m] for m in (104, 117, 123)]
    assert seen == set(range(5))
    candidates = [probability for _, probability in images.candidates(0)]
    assert len(candidates) == 25 * 5 * 2, "pairs of width and height; corners and centre; mirrored or not"
    assert set(candidates) == {1 / 250}


# Full size: shapes only


X = {"paper": "res4b22_relu", "postact": "res4b22_relu", "released": "att.ReLU_2"}
CONV4 = {"paper": "sr_conv4", "postact": "sr_conv4", "released": "comb.comb_Conv_3"}


@pytest.mark.parametrize("network", SPATIAL)
@pytest.mark.parametrize(("profile", "dialect"), VARIANTS)
def test_maps_have_the_papers_sizes(network, profile, dialect):
    measured = measure(net_text(network, profile=profile, dialect=dialect), dialect)
    assert measured.shapes[X[profile]] == (1, 1024, 14, 14)
    assert measured.shapes[CONV4[profile]] == (1, 2048, 1, 1)
    for phase in ("TRAIN", "TEST"):
        text = net_text(network, profile=profile, dialect=dialect, step=4)
        given = {"data": (24, 3, 224, 224), "label": (24, 80, 1, 1)}
        measured = measure(text, dialect, phase, given)
        assert measured.shapes[X[profile]] == (24, 1024, 14, 14)
        assert measured.shapes[CONV4[profile]] == (24, 2048, 1, 1)


def test_the_released_feature_map_is_where_the_authors_say():
    measured = measure(net_text("ResNet-SRN", profile="released", dialect="srn"), "srn")
    assert measured.shapes["caffe.Eltwise_304"] == measured.shapes["att.ReLU_2"] == (1, 1024, 14, 14)
    assert measured.shapes["att.att_Reshape_6"] == (1, 80, 14, 14)


def test_every_profile_is_covered():
    assert {profile for profile, _ in DEFAULT} == set(PROFILES)
