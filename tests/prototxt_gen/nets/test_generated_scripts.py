"""The generated shell scripts, run with stand-ins for Caffe: which steps, which weights, which GPUs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from prototxt_gen import write_training

# Writes down how it is called, and leaves the snapshot that the solver's last iteration leaves.
CAFFE = """#!/bin/sh
echo "$(basename "$0") $*" >> "$LOG"
for word in "$@"; do
  case $word in --solver=*) solver=${word#--solver=};; esac
done
prefix=$(sed -n 's/^snapshot_prefix: "\\(.*\\)"$/\\1/p' "$solver")
: > "${prefix}_iter_$(sed -n 's/^max_iter: //p' "$solver").caffemodel"
"""
MPIRUN = """#!/bin/sh
echo "mpirun $1 $2" >> "$LOG"
shift 2
exec "$@"
"""


def stand_in(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def run(folder: Path, script: str, *arguments: object, **variables: str) -> subprocess.CompletedProcess:
    """Run a script from another folder, with the stand-ins first on the PATH."""
    programs = folder / "programs"
    stand_in(programs / "caffe", CAFFE)
    stand_in(programs / "mpirun", MPIRUN)
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "LOG": str(folder / "log"), **variables}
    line = [str(folder / script), *map(str, arguments)]
    return subprocess.run(line, cwd=folder.parent, env=environment, capture_output=True, text=True)


def written(folder: Path, network: str = "ResNet-SRN", **options) -> Path:
    """All files of a network, and the databases that its script looks for."""
    write_training(folder, network, "coco", width_divisor=64, **options)
    for split in ("train", "test"):
        for content in ("image", "label"):
            (folder / f"datasets/coco/coco_{split}_{content}_lmdb").mkdir(parents=True)
    (folder.parent / "imagenet.caffemodel").write_bytes(b"")
    return folder


CHAIN = [
    ("step_1_resnet101", "imagenet.caffemodel"),
    ("step_2_resnet101_att", "snapshots/step_1_resnet101_iter_25872.caffemodel"),
    ("step_3_resnet101_srn", "snapshots/step_2_resnet101_att_iter_25872.caffemodel"),
    ("step_4_resnet101_srn_finetune", "snapshots/step_3_resnet101_srn_iter_25872.caffemodel"),
]


@pytest.mark.parametrize(
    ("dialect", "gpus", "before", "after"),
    [
        ("srn", 4, ["mpirun -np 4"], ""),
        ("srn", 1, [], ""),
        ("bvlc", 2, [], " --gpu=0,1"),
        ("bvlc", 1, [], " --gpu=0"),
    ],
)
def test_each_step_starts_from_the_weights_of_the_one_before(dialect, gpus, before, after, tmp_path):
    folder = written(tmp_path / "coco", dialect=dialect, gpus=gpus)
    result = run(folder, "run_train_coco.sh", "imagenet.caffemodel")
    assert result.returncode == 0, result.stderr
    expected = []
    for stem, weights in CHAIN:
        place = f"{tmp_path}/{weights}" if weights.startswith("imagenet") else weights
        expected += [*before, f"caffe train --solver={stem}_solver.prototxt --weights={place}{after}"]
    assert (folder / "log").read_text().splitlines() == expected
    assert (folder / "snapshots/step_4_resnet101_srn_finetune_iter_25872.caffemodel").exists()


def test_finished_steps_are_left_out(tmp_path):
    folder = written(tmp_path / "coco", dialect="srn")
    (folder / "snapshots").mkdir()
    for stem in ("step_1_resnet101", "step_2_resnet101_att"):
        (folder / f"snapshots/{stem}_iter_25872.caffemodel").write_bytes(b"")
    result = run(folder, "run_train_coco.sh", tmp_path / "imagenet.caffemodel")
    assert result.returncode == 0 and result.stdout.count("is there already") == 2
    solvers = [line for line in (folder / "log").read_text().splitlines() if line.startswith("caffe")]
    assert [line.split()[2] for line in solvers] == [
        "--solver=step_3_resnet101_srn_solver.prototxt",
        "--solver=step_4_resnet101_srn_finetune_solver.prototxt",
    ]


def test_a_step_that_fails_ends_training(tmp_path):
    folder = written(tmp_path / "coco", dialect="bvlc")
    failing = stand_in(tmp_path / "failing/caffe", '#!/bin/sh\necho "$*" >> "$LOG"\nexit 3\n')
    result = run(folder, "run_train_coco.sh", "imagenet.caffemodel", CAFFE=str(failing))
    assert result.returncode == 3
    assert len((folder / "log").read_text().splitlines()) == 1


def test_what_is_missing_is_said_before_training(tmp_path):
    folder = written(tmp_path / "coco", dialect="srn")
    assert run(folder, "run_train_coco.sh").returncode == 2
    absent = run(folder, "run_train_coco.sh", "nowhere.caffemodel")
    assert absent.returncode == 2 and "usage:" in absent.stderr
    (folder / "datasets/coco/coco_test_label_lmdb").rmdir()
    result = run(folder, "run_train_coco.sh", "imagenet.caffemodel")
    assert result.returncode == 2 and "datasets/coco/coco_test_label_lmdb is missing" in result.stderr
    assert not (folder / "log").exists()


@pytest.mark.parametrize(("network", "steps"), [("ResNet-107", 1), ("ResNet-101-semantic", 3), ("ResNet-SRN-att", 4)])
def test_every_network_is_trained_to_the_end(network, steps, tmp_path):
    folder = written(tmp_path / "coco", network, dialect="bvlc")
    result = run(folder, "run_train_coco.sh", "imagenet.caffemodel")
    assert result.returncode == 0, result.stderr
    assert len((folder / "log").read_text().splitlines()) == steps


def test_the_test_script_calls_the_authors_program(tmp_path):
    folder = written(tmp_path / "coco", dialect="srn", gpus=2)
    python = stand_in(tmp_path / "fake/python", '#!/bin/sh\necho "$*"\n')
    result = run(folder, "run_test_coco.sh", "tools/model_test.py", "images/", "list.txt", PYTHON=str(python))
    assert result.returncode == 0, result.stderr
    weights = f"{folder}/snapshots/step_4_resnet101_srn_finetune_iter_25872.caffemodel"
    assert result.stdout.split() == [
        "tools/model_test.py", "images/", "list.txt", f"{folder}/coco_resnet101_srn_test.prototxt", weights,
        "coco_predictions.txt", "--batch_size", "48", "--gpus", "0", "1",
    ]  # fmt: skip
    other = run(folder, "run_test_coco.sh", "t.py", "i/", "l.txt", "mine.caffemodel", PYTHON=str(python))
    assert other.stdout.split()[4] == "mine.caffemodel"
    assert run(folder, "run_test_coco.sh", "t.py").returncode == 2
