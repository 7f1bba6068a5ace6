"""Packs that are declared for a solver reach all its nets, wherever these stand."""

from __future__ import annotations

import pytest

import port
from port.__main__ import main
from port.solver.nets import read_solver
from verify.__main__ import main as verify

SHAPE = "shape { dim: 2 dim: 3 dim: 2 dim: 2 }"
LAYERS = """
layer { name: "norm" type: "Normalize" bottom: "x" top: "n" }
layer { name: "loss" type: "EuclideanLoss" bottom: "n" bottom: "t" top: "loss" }
"""
NET = f'layer {{ name: "in" type: "Input" top: "x" top: "t" input_param {{ {SHAPE} }} }}' + LAYERS
OLD_NET = f'input: "x" input: "t" input_{SHAPE} input_{SHAPE}' + LAYERS
FIELDS = 'base_lr: 1 lr_policy: "fixed" max_iter: 1 test_interval: 1 test_iter: 1'


def solver_file(folder, nets: str):
    (folder / "net.prototxt").write_text(NET)
    path = folder / "solver.prototxt"
    path.write_text(f"{nets} {FIELDS}")
    return path


PLACES = {
    "named": 'net: "net.prototxt"',
    "named apart": 'train_net: "net.prototxt" test_net: "net.prototxt"',
    "within": f"net_param {{ {NET} }}",
    "within apart": f"train_net_param {{ {NET} }} test_net_param {{ {NET} }}",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("declared", ["+face", "bvlc+face"])
def test_declared_packs_reach_training_and_test_nets(tmp_path, place, declared):
    found = read_solver(solver_file(tmp_path, PLACES[place]), declared)
    nets = [source.load() for source in (found.train, *found.tests())]
    assert len(nets) == 2 and found.dialect == "bvlc"
    for net in nets:
        assert net.caffe.packs == {"face": "as given"} and net.caffe.node("norm").layer.pack == "face"
    other = read_solver(solver_file(tmp_path, PLACES[place]), "bvlc")  # where nothing says whose Normalize it is
    assert [s.load().caffe.node("norm").layer.pack for s in (other.train, *other.tests())] == ["ssd", "ssd"]


def test_packs_leave_the_dialect_to_the_files(tmp_path):
    path = solver_file(tmp_path, "")
    (tmp_path / "net.prototxt").write_text(OLD_NET)
    path.write_text('net: "net.prototxt" base_lr: 1 lr_policy: "exp10" stepsize: 3 max_iter: 1')
    found = read_solver(path, "+face")
    assert found.dialect == found.train.parsed.dialect == "srn"
    assert found.reason.startswith("in the solver file, the lr_policy 'exp10'") and found.packs == ("face",)
    assert port.load_solver(path, dialect="+face").net.caffe.packs == {"face": "as given"}


@pytest.mark.parametrize(
    "run, arguments",
    [(main, ["train", "--solver", "solver.prototxt"]), (verify, ["net", "--prototxt", "n", "--caffemodel", "w"])],
)
def test_commands_refuse_what_is_no_dialect_or_pack(run, arguments, capsys):
    for given, said in (
        (["--dialect", "caffe2"], "invalid choice: 'caffe2'"),
        (["--packs", "fase"], "there is no pack 'fase'. Did you mean 'face'?"),
        (["--packs", "openpose,lrcn,flownet2"], "no pack 'flownet2'. That is a fork; what it adds are the packs flow"),
    ):
        with pytest.raises(SystemExit):
            run([*arguments, *given])
        assert said in capsys.readouterr().err
