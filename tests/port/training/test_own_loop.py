"""The training loop of docs/training.md, run as it stands there; and nets with exchanged modules."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from small_nets import conv, fully, inputs, layer

import port
from port.images import load_image
from prototxt_gen.base.errors import NetError

PAGE = Path(__file__).parents[3] / "docs" / "training.md"
NET = (
    inputs(data=(2, 3, 17, 19))
    + layer("less", "Power", "data", "less", "power_param { scale: 0.01 }")
    + conv("c", "less", "c", 4, 3, "param { lr_mult: 0 } param { lr_mult: 0 }")
    + layer("r", "ReLU", "c", "c")
    + conv("e", "c", "e", 6, 2)
    + layer("b", "BatchNorm", "e", "b")
    + fully("fc8", "b", "fc8", 7)
    + layer("prob", "Softmax", "fc8", "prob")
)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A net with its weights, and photographs of two kinds: bright ones and dark ones."""
    monkeypatch.chdir(tmp_path)
    Path("deploy.prototxt").write_text(NET)
    port.save_caffemodel(port.load_net("deploy.prototxt", seed=6), "net.caffemodel")
    random = np.random.default_rng(1)
    for name, low in (("cats", 0), ("dogs", 120)):
        Path(name).mkdir()
        for i in range(11):
            cv2.imwrite(f"{name}/{i:02}.png", random.integers(low, low + 100, (23, 29, 3)).astype(np.uint8))
    return tmp_path


def example() -> str:
    section = PAGE.read_text(encoding="utf-8").partition("## A loop of your own")[2]
    return re.search(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)[1]  # type: ignore[index]


def test_the_loop_of_the_page(folder, capsys):
    torch.manual_seed(3)
    names: dict = {}
    exec(compile(example(), str(PAGE), "exec"), names)
    said = capsys.readouterr().out
    assert "1 without weights, filled: fc_pets" in said and "1 not in the net: fc8" in said
    before = port.load_net("deploy.prototxt", "net.caffemodel")
    after = port.load_net("pets.prototxt", "pets.caffemodel")  # strict: all is there
    old, new = (port.net.param_arrays(net) for net in (before, after))
    assert new["fc_pets"][0].shape == (2, old["fc8"][0].shape[1])
    assert all(np.array_equal(a, b) for a, b in zip(old["c"], new["c"], strict=True))  # lr_mult: 0
    assert not np.array_equal(old["e"][0], new["e"][0]) and not np.array_equal(old["b"][0], new["b"][0])
    right = []
    for kind, name in enumerate(("cats", "dogs")):
        for path in sorted(Path(name).iterdir()):
            right.append(port.run_blobs(after, {"data": load_image(path, 17, 19)[None]})["fc8"].argmax() == kind)
    assert len(right) == 22 and all(right)


def test_an_exchanged_module_trains_and_is_refused_by_name(folder):
    net = port.load_net("deploy.prototxt", "net.caffemodel")
    net.fc8 = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6 * 14 * 16, 5))
    net(data=torch.zeros(3, 3, 17, 19))["prob"].sum().backward()
    for ask in (lambda: port.save_caffemodel(net, "x.caffemodel"), lambda: port.export_onnx(net, "x.onnx")):
        with pytest.raises(NetError, match=r"layer 'fc8': its module was exchanged for Sequential"):
            ask()
    assert not list(folder.glob("x.*"))


def test_an_exchanged_layer_without_blobs_is_not_exported_as_what_it_was(folder):
    net = port.load_net("deploy.prototxt", "net.caffemodel")
    net.r = torch.nn.GELU()
    port.save_caffemodel(net, "x.caffemodel")  # the weights are the layers' own
    with pytest.raises(NetError, match=r"layer 'r': its module was exchanged for GELU"):
        port.export_onnx(net, "x.onnx")
