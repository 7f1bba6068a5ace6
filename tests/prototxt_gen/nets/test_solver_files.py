"""The generated solvers: their arithmetic, written and counted again here; GPUs; what Caffe reads."""

from __future__ import annotations

import re
from math import ceil

import pytest
from generated import DIALECTS, NETWORKS, PROFILES

from port.solver.rates import rate
from prototxt_gen import NetBuilder, training_files
from prototxt_gen.base.errors import ParseError, UsageError
from prototxt_gen.nets import DATASETS, at_step, configure
from prototxt_gen.nets.data import data_layers
from prototxt_gen.nets.schedule import Schedule, division, possible_gpus
from prototxt_gen.nets.solver import solver_file, solver_text
from prototxt_gen.schema.text import parse

# Training and test images: the paper's (4), and for NUS-WIDE those that the release is left with.
IMAGES = {"nus_wide": (161_789, 107_859), "coco": (82_783, 40_504), "wider_att": (28_340, 29_177)}
RELEASED = {**IMAGES, "nus_wide": (119_986, 80_283)}


def solvers(network: str = "ResNet-SRN", dataset: str = "coco", **options) -> dict[str, str]:
    config = configure(network, dataset, **options)
    return {solver_file(step): solver_text(at_step(config, step)) for step in config.network.steps}


def solver(text: str, dialect: str):
    return parse(text, "SolverParameter", dialect=dialect)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("profile", PROFILES)
def test_the_papers_training(profile, dataset, dialect):
    images, test_images = (RELEASED if profile == "released" else IMAGES)[dataset]
    files = solvers("ResNet-SRN", dataset, profile=profile, dialect=dialect)
    assert len(files) == 4
    for name, text in files.items():
        each = solver(text, dialect)
        assert each.net == name.replace("solver", "trainval")
        assert (round(each.momentum, 6), round(each.weight_decay, 8)) == (0.9, 0.0005)
        assert (each.lr_policy, each.base_lr, each.gamma) == ("step", pytest.approx(1e-3), pytest.approx(0.1))
        # ten epochs at each of 1e-3, 1e-4 and 1e-5, the last iteration filled up
        assert each.stepsize == ceil(10 * images / 96) and each.max_iter == 3 * each.stepsize
        assert each.test_interval == ceil(images / 96)
        testing = 4 if dialect == "srn" else 1  # BVLC tests on the first GPU only
        assert list(each.test_iter) == [ceil(test_images / (12 * testing))]
        assert each.snapshot == each.stepsize, "the last snapshot is the end of training"
        assert each.iter_size == 1 and each.solver_mode == each.GPU
        if dialect == "srn":
            assert list(each.device_id) == [0, 1, 2, 3] and each.solver_type == each.SGD
        else:
            assert each.type == "SGD" and not each.HasField("device_id")


def test_the_rates_are_those_of_the_paper():
    each = solver(next(iter(solvers().values())), "bvlc")
    ends = [0, each.stepsize - 1, each.stepsize, 2 * each.stepsize, each.max_iter - 1]
    found = [rate(each, iteration, iteration // each.stepsize) for iteration in ends]
    assert found == pytest.approx([1e-3, 1e-3, 1e-4, 1e-5, 1e-5])


def test_the_arithmetic_stands_above_the_numbers():
    (text,) = solvers("ResNet-101", "coco", dialect="srn").values()
    lines = text.splitlines()
    assert "# batch: 4 GPUs x 24 images x iter_size 1 = 96" in lines
    assert lines[lines.index("# batch: 4 GPUs x 24 images x iter_size 1 = 96") + 1] == "iter_size: 1"
    assert "# epoch: 82,783 training images / 96 = 862.3 iterations" in lines
    assert "# stepsize: 10 epochs x 82,783 / 96 = 8,624 iterations at each rate" in lines
    assert "# max_iter: 3 rates (0.001, 0.0001, 1e-05) x 8,624 = 25,872" in lines
    assert any(
        line.startswith("# test_iter: 40,504 test images / (12 images x 4 GPUs) = 844 (8 of them") for line in lines
    )
    values = dict(re.findall(r"^(\w+): (\S+)$", text, re.MULTILINE))
    assert (values["stepsize"], values["max_iter"], values["test_iter"]) == ("8624", "25872", "844")


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("gpus", possible_gpus())
def test_the_effective_batch_stays(gpus, dialect):
    (text,) = solvers("ResNet-101", "wider_att", dialect=dialect, gpus=gpus).values()
    each = solver(text, dialect)
    builder = NetBuilder("data", dialect)
    data_layers(builder, configure("ResNet-101", "wider_att", dialect=dialect, gpus=gpus, step=1))
    net = builder.build()
    per_gpu = {layer.data_param.batch_size for layer in net.layer[:2]}
    assert len(per_gpu) == 1, "images and labels come in the same batches"
    (batch,) = per_gpu
    assert batch * gpus * each.iter_size == 96 and batch <= 24
    # iterations depend on the effective batch alone
    assert each.max_iter == 3 * ceil(10 * 28_340 / 96)
    if dialect == "srn":
        assert list(each.device_id) == list(range(gpus))
        seen = each.test_iter[0] * net.layer[2].data_param.batch_size * gpus
        assert 0 <= seen - 29_177 < 12 * gpus, "all test images, and less than one pass more"


def test_divisions_of_the_batch():
    assert {gpus: division(gpus) for gpus in (1, 2, 3, 4, 6, 8)} == {
        1: (24, 4), 2: (24, 2), 3: (16, 2), 4: (24, 1), 6: (16, 1), 8: (12, 1),
    }  # fmt: skip
    assert possible_gpus() == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 96]


def test_a_number_of_gpus_that_does_not_fit_names_the_others():
    with pytest.raises(UsageError) as error:
        training_files("ResNet-101", gpus=5, epochs=0)
    assert [str(problem) for problem in error.value.problems] == [
        "--gpus 5 is not possible; expected one of: 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 96",
        "--epochs 0 is not possible; expected 1 or more at each learning rate",
    ]


def test_epochs_change_the_schedule_only():
    short, long = (Schedule.of(configure("ResNet-101", epochs=epochs)) for epochs in (3, 11))
    assert (short.stepsize, long.stepsize) == (ceil(3 * 82_783 / 96), ceil(11 * 82_783 / 96))
    assert short.effective_batch == long.effective_batch == 96
    assert "3 epochs x 82,783" in solvers("ResNet-101", epochs=3)["step_1_resnet101_solver.prototxt"]


def test_each_dialect_reads_its_own_solver_only():
    for dialect, other in (("srn", "bvlc"), ("bvlc", "srn")):
        for text in solvers(dialect=dialect).values():
            solver(text, dialect)
            with pytest.raises(ParseError):
                solver(text, other)


def test_the_file_names_are_those_of_the_release():
    assert set(solvers()) == {
        "step_1_resnet101_solver.prototxt",
        "step_2_resnet101_att_solver.prototxt",
        "step_3_resnet101_srn_solver.prototxt",
        "step_4_resnet101_srn_finetune_solver.prototxt",
    }
    names = {name for network in NETWORKS for name in training_files(network, "coco")}
    assert {
        "step_2_resnet101_att_trainval.prototxt",
        "step_4_resnet101_srn_finetune_trainval.prototxt",
        "coco_resnet101_srn_test.prototxt",
        "run_train_coco.sh",
    } <= names
