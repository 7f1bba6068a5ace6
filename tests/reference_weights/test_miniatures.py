"""The miniatures: what the recipe makes of the generator's files, and training one by its steps."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

import port
from port.graph.build import load_graph
from prototxt_gen.base.errors import UsageError
from prototxt_gen.nets import DATASETS, PROFILES, configure
from prototxt_gen.nets.schedule import Schedule
from prototxt_gen.nets.write import training_files
from prototxt_gen.paper import Rates
from prototxt_gen.schema.text import parse_prototxt
from reference_weights.__main__ import main
from reference_weights.miniatures import NETWORKS, SHAPES, recipe
from reference_weights.miniatures import train as training


def solver_of(name, text):
    return parse_prototxt(text, file=name, message="SolverParameter").message


@pytest.mark.parametrize("network", NETWORKS)
def test_the_recipe_is_in_the_solvers(network):
    files = training_files(network, **recipe.options())
    rates = {"whole": (0.02, [2500, 3000], 3500), "parts": (0.02, [], 1000), "finetune": (0.001, [], 1500)}
    for name, text in files.items():
        if name.endswith("_solver.prototxt"):
            solver = solver_of(name, text)
            fixed = "lr_mult: 0" in files[name.replace("_solver", "_trainval")]
            kind = "whole" if name.startswith("step_1") else "parts" if fixed else "finetune"
            rate, stepvalues, iterations = rates[kind]
            assert solver.base_lr == pytest.approx(rate) and solver.max_iter == iterations
            assert list(solver.stepvalue) == stepvalues and (solver.lr_policy == "multistep") is bool(stepvalues)
            assert solver.test_interval == 500 and list(solver.test_iter) == [50]
            assert solver.solver_mode == solver.CPU and not solver.device_id
            assert solver.test_initialization is (kind != "whole")
            assert "ImageNet weights" not in text.partition("Recipe")[0]
    script = files["run_train_shapes.sh"]
    assert "IMAGENET" not in script and "train step_1_" in script and '_solver.prototxt "" ' in script


def test_the_papers_own_data_sets_have_no_recipe():
    assert set(DATASETS) == {"coco", "nus_wide", "wider_att"} and "normalized" not in PROFILES
    assert all(data.recipe is None for data in DATASETS.values())
    assert Schedule.of(configure("ResNet-SRN", step=4)).epochs == (10, 10, 10)


def test_the_head_is_normalised_unless_the_papers_is_asked_for():
    own, papers = (training_files("ResNet-SRN", **recipe.options(name)) for name in ("normalized", "paper"))
    for name, text in own.items():
        more = text.count('type: "BN"') - papers[name].count('type: "BN"')
        assert more == (3 if name.endswith(("srn_test.prototxt", "trainval.prototxt")) and "_srn" in name else 0), name
    layers = [
        [line for line in files["step_2_resnet101_att_trainval.prototxt"].splitlines() if not line.startswith("#")]
        for files in (own, papers)
    ]
    assert layers[0] == layers[1]


def test_a_miniature_has_the_papers_maps_and_an_eighth_of_its_channels(tmp_path):
    config = configure("ResNet-SRN", **recipe.options())
    assert config.main.outputs == (32, 64, 128, 256) and config.head.conv4 == 256 and config.head.conv4_size == 14
    text = training_files("ResNet-SRN", **recipe.options())["shapes_resnet101_srn_test.prototxt"]
    (tmp_path / "net.prototxt").write_text(text)
    blobs = load_graph(tmp_path / "net.prototxt").blobs()
    assert blobs["res4b22_relu"].shape == (1, 128, 14, 14) and blobs["A"].shape == (1, 20, 14, 14)


@pytest.fixture
def quick(monkeypatch):
    """A recipe of a few images; everything else is the real one."""
    short = replace(SHAPES.recipe, batch=3, test_batch=4, whole=Rates(0.01, (12,)), parts=Rates(0.01, (1,)))
    short = replace(short, finetune=Rates(1e-3, (1,)))
    monkeypatch.setattr(recipe, "TRAIN", 7)
    monkeypatch.setattr(recipe, "TEST", 5)
    monkeypatch.setattr(recipe, "WIDTH_DIVISOR", 64)
    monkeypatch.setattr(recipe, "SHAPES", replace(SHAPES, training_images=7, test_images=5, recipe=short))


@pytest.mark.slow
def test_training_shares_steps_and_is_the_same_again(quick, tmp_path, capsys):
    arguments = ["miniature", "--workers", "0", "--output"]
    assert main([*arguments, str(tmp_path / "a"), "--network", "ResNet-SRN"]) == 0
    said = capsys.readouterr().out
    assert said.count("python -m port train") == 4 and "--weights" in said
    folder = tmp_path / "a" / "seed0"
    model = folder / "shapes_resnet101_srn.caffemodel"
    about = json.loads(model.with_suffix(".json").read_text())
    assert set(about["seconds"]) == {path.stem for path in folder.glob("snapshots/*.seconds")}
    net = port.load_net(folder / "shapes_resnet101_srn_test.prototxt", model)
    # 28 iterations: with fewer, the running variances stay so small that 100 layers overflow in step 2.
    arrays = [blob.detach().numpy() for blobs in port.params(net).values() for blob in blobs]
    assert all(np.isfinite(array).all() for array in arrays)

    assert main([*arguments, str(tmp_path / "a"), "--network", "ResNet-SRN-att"]) == 0
    assert capsys.readouterr().out.count("is there already") == 2  # steps 1 and 2
    before = model.read_bytes()
    model.unlink()
    assert main([*arguments, str(tmp_path / "a"), "--network", "ResNet-SRN"]) == 0
    assert "python -m port train" not in capsys.readouterr().out
    assert model.read_bytes() == before

    shutil.copytree(tmp_path / "a" / "datasets", tmp_path / "b" / "datasets")
    assert main([*arguments, str(tmp_path / "b"), "--network", "ResNet-SRN"]) == 0
    assert (tmp_path / "b" / "seed0" / model.name).read_bytes() == before


@pytest.mark.slow
def test_a_stopped_step_goes_on(quick, tmp_path, monkeypatch):
    asked = []
    real = training.train
    monkeypatch.setattr(training, "train", lambda solver, options: asked.append(options) or 2)
    assert training.train_miniature("ResNet-101", tmp_path, workers=0) == 2
    assert asked[0].resume is None and not list(tmp_path.glob("seed0/*.caffemodel"))
    (tmp_path / "seed0" / "snapshots" / "step_1_resnet101_iter_1.solverstate").touch()
    assert training.train_miniature("ResNet-101", tmp_path, workers=0) == 2
    assert asked[1].resume == "latest" and not asked[1].weights
    (tmp_path / "seed0" / "snapshots" / "step_1_resnet101_iter_1.solverstate").unlink()
    monkeypatch.setattr(training, "train", real)
    assert training.train_miniature("ResNet-101", tmp_path, workers=0) == 0


def test_an_unknown_network_is_refused(tmp_path, capsys):
    with pytest.raises(UsageError, match="ResNet-SNR"):
        training.train_miniature("ResNet-SNR", tmp_path)
    assert not list(tmp_path.iterdir())
