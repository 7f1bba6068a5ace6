"""port score and what users mistake: files that would be lost, means, devices, and ONNX models of other kinds."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import onnx
import pytest
from foreign_files import made_files
from onnx import TensorProto, numpy_helper
from scoring_runs import BATCH, child, dying, ended, scenes, score, tiny_net, words

from port.__main__ import main
from port.images import read_image_list
from port.scoring.files import left_out_path
from port.scoring.journal import Journal
from prototxt_gen.base import command
from prototxt_gen.base.errors import CaffeError, DataError, UsageError
from prototxt_gen.base.files import atomic_write, unwritable


def test_devices_and_pipes_are_never_replaced(tmp_path, capsys):
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link):
        assert score(path) == 2
        assert f"{path}: is a device or a pipe" in capsys.readouterr().err
        with pytest.raises(CaffeError, match="is a device or a pipe"), atomic_write(path) as file:
            file.write(b"lost")
    assert pipe.is_fifo() and link.is_symlink() and sorted(tmp_path.iterdir()) == [link, pipe]


def test_what_cannot_be_written_is_said_before(tmp_path):
    (tmp_path / "file").write_text("")
    assert "File name too long" in str(unwritable(tmp_path / ("x" * 300))[0])
    assert "expected a writable folder" in str(unwritable(tmp_path / "file" / "x")[0])
    assert "is a folder" in str(unwritable(tmp_path)[0])
    assert unwritable(tmp_path / "file") == [] == unwritable(tmp_path / "new" / "x")


def test_no_run_writes_over_what_it_reads(tmp_path, capsys):
    for name in ("net.prototxt", "net.caffemodel"):
        shutil.copy(tiny_net().with_suffix(Path(name).suffix), tmp_path / name)
    shutil.copytree(scenes(), tmp_path / "images")
    held = {name: (tmp_path / name).read_bytes() for name in ("net.prototxt", "net.caffemodel", "images/list.txt")}
    for name, content in held.items():
        output = tmp_path / "images" / ".." / name
        assert score(output, net=tmp_path / "net.prototxt", root=tmp_path / "images") == 2
        assert "is read by this run, and would be lost" in capsys.readouterr().err
        assert (tmp_path / name).read_bytes() == content
    image = tmp_path / "images" / "val" / "0000.jpg"
    line = ["score", "--prototxt", tiny_net(), "--caffemodel", tiny_net().with_suffix(".caffemodel"), "--output", image]
    content = image.read_bytes()
    (tmp_path / "link.txt").symlink_to(image)
    line[-1] = tmp_path / "link.txt"
    for named in ([image], [tmp_path / "images"], [image.parent / "0001.jpg", image.parent]):
        assert command.run(main, list(map(str, [*line, *named]))) == 2
        assert "is read by this run" in capsys.readouterr().err
    assert score(image, root=tmp_path / "images") == 2
    assert "is read by this run" in capsys.readouterr().err
    assert image.read_bytes() == content and not list(tmp_path.rglob("*.part"))


def test_a_list_is_not_taken_for_one_of_what_was_left_out(tmp_path, capsys):
    """A run writes scores.left_out.txt, or removes an earlier one."""
    root = tmp_path / "images"
    shutil.copytree(scenes(), root)
    listed = shutil.copy(root / "list.txt", tmp_path / "scores.left_out.txt")
    given = ["--image-list", listed, "--image-root", root, "--output", tmp_path / "scores.txt"]
    net = ["--prototxt", tiny_net(), "--caffemodel", tiny_net().with_suffix(".caffemodel")]
    assert command.run(main, list(map(str, ["score", *net, *given]))) == 2
    assert "scores.left_out.txt: is read by this run" in capsys.readouterr().err


def test_a_way_to_resize_that_is_none_is_said_with_all_else(tmp_path, capsys):
    assert score(tmp_path / "scores.txt", "--resize", "pill", "--threads", 0) == 2
    said = capsys.readouterr().err
    assert "--threads 0" in said and "did you mean 'pil'?" in said


@pytest.mark.parametrize("mean", ["nan,1,2", "1,inf,2", "1,2,1e39"])
def test_means_that_are_none(tmp_path, capsys, mean):
    assert score(tmp_path / "s.txt", "--mean", mean) == 2
    assert "expected grey levels, as in 104,117,123" in capsys.readouterr().err


def test_a_mean_of_more_digits_is_another_one(tmp_path, capsys):
    output = tmp_path / "scores.txt"
    first, second = "104.00698793,116.66876762,122.67891434", "104.007,116.669,122.679"
    assert ended(child(tmp_path / "log", words(output, "--mean", first), dying(3))) == -signal.SIGKILL
    assert score(output, "--mean", second) == 2
    assert "scores.txt.part: mean: was 104.006988, 116.668768, 122.678914, now 104.007, " in capsys.readouterr().err


def test_to_restart_drops_journals_alone(tmp_path):
    part = tmp_path / "scores.txt.part"
    for content in ("my notes\n", "my notes", '{"kind": "other"}\n'):
        part.write_text(content)
        with pytest.raises(UsageError, match="is no journal of `port score`"):
            Journal(part, {"a": "1"}, restart=True)
        assert part.read_text() == content
    part.unlink()
    for facts in ({"a": "1"}, {"a": "2"}):
        with Journal(part, facts, restart=True) as journal:
            assert journal.held == {}


def test_lists_of_what_was_left_out_are_each_outputs_own():
    names = ("scores.txt", "scores", "scores.csv", "srn.coco", "srn.nus", "a.txt.txt")
    lists = [left_out_path(name).name for name in names]
    assert lists[0] == "scores.left_out.txt" and lists[3] == "srn.coco.left_out.txt"
    assert len({*lists} | {*names}) == 2 * len(names) - 1  # scores and scores.txt share one


def test_a_name_that_no_disk_takes_is_an_image_that_is_not_there(tmp_path):
    (tmp_path / "list").write_text("a" * 400 + ".jpg 1\n")
    with pytest.raises(DataError, match="list:1: there is no image"):
        read_image_list(tmp_path / "list", tmp_path)


@pytest.mark.parametrize("device", ["meta", "tpu", "cuda:x", "cpu:3", ""])
def test_devices_that_are_none(tmp_path, capsys, device):
    for runtime in ("torch", "onnxruntime"):
        assert score(tmp_path / "s.txt", "--device", device, "--runtime", runtime) == 2
        assert f"the device '{device}' is unknown; expected cpu, cuda or cuda:N" in capsys.readouterr().err


# -- ONNX models of others ----------------------------------------------------------------------------------
def saved(path: Path, nodes: list, outputs: dict, kind: int = TensorProto.FLOAT, constants: tuple = ()) -> Path:
    """A model of images (n, 3, 8, 9) in "x"; outputs: name -> (type, shape)."""
    info = onnx.helper.make_tensor_value_info
    ends = [info(name, *each) for name, each in outputs.items()]
    graph = onnx.helper.make_graph(nodes, "g", [info("x", kind, ("n", 3, 8, 9))], ends, constants)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def score_onnx(path: Path, *more: object) -> int:
    line = ["score", "--onnx", path, "--output", path.with_suffix(".txt"), "--device", "cpu", "--batch", BATCH, *more]
    return command.run(main, list(map(str, [*line, scenes() / "val"])))


def mean_of(source: str, name: str, operation: str = "ReduceMean"):
    return onnx.helper.make_node(operation, [source], [name], axes=[2, 3], keepdims=0)


def cast(source: str, name: str, to: int):
    return onnx.helper.make_node("Cast", [source], [name], to=to)


@pytest.mark.parametrize("kind", [TensorProto.UINT8, TensorProto.FLOAT16])
def test_a_model_that_reads_no_floats(tmp_path, capsys, kind):
    nodes = [cast("x", "c", TensorProto.FLOAT), mean_of("c", "y")]
    path = saved(tmp_path / "m.onnx", nodes, {"y": (TensorProto.FLOAT, ("n", 3))}, kind)
    assert score_onnx(path) == 2
    said = capsys.readouterr().err
    assert "m.onnx: 'x' is a tensor(" in said and "expected tensor(float). Export the model with float32" in said


@pytest.mark.parametrize("kind", [TensorProto.STRING, TensorProto.INT64])
def test_a_model_that_gives_no_floats(tmp_path, capsys, kind):
    nodes = [mean_of("x", "m"), cast("m", "y", kind)]
    assert score_onnx(saved(tmp_path / "m.onnx", nodes, {"y": (kind, ("n", 3))})) == 2
    assert "m.onnx: 'y' is a tensor(" in capsys.readouterr().err


def test_a_model_made_for_single_images(tmp_path, capsys):
    shape = numpy_helper.from_array(np.array([1, 216]), "s")
    node = onnx.helper.make_node("Reshape", ["x", "s"], ["y"])
    outputs = {"y": (TensorProto.FLOAT, ("n", 216))}
    path = saved(tmp_path / "m.onnx", [node], outputs, constants=(shape,))
    assert score_onnx(path) == 2
    assert f"m.onnx: ONNX Runtime fails on a batch of {BATCH}: " in (said := capsys.readouterr().err)
    assert "Try --batch 1" in said
    assert score_onnx(path, "--restart", "--batch", 1) == 0


def test_a_model_that_mixes_the_images_of_a_batch(tmp_path, capsys):
    node = onnx.helper.make_node("ReduceMean", ["x"], ["y"], axes=[0, 2, 3], keepdims=1)
    assert score_onnx(saved(tmp_path / "m.onnx", [node], {"y": (TensorProto.FLOAT, (1, 3, 1, 1))})) == 2
    assert "output 'y' has the shape (1, 3, 1, 1) for a batch of 4; expected 3 scores" in capsys.readouterr().err


def test_the_first_output_is_the_first_by_name(tmp_path, capsys):
    outputs = dict.fromkeys(("z", "a"), (TensorProto.FLOAT, ("n", 3)))
    path = saved(tmp_path / "m.onnx", [mean_of("x", "z"), mean_of("x", "a", "ReduceMax")], outputs)
    assert score_onnx(path) == 0
    assert "3 scores each, of 'a'" in capsys.readouterr().out


def test_weights_beside_the_model_are_part_of_it(tmp_path, capsys):
    weights = numpy_helper.from_array(np.arange(432, dtype=np.float32).reshape(216, 2) / 999, "w")
    nodes = [onnx.helper.make_node("Flatten", ["x"], ["f"]), onnx.helper.make_node("MatMul", ["f", "w"], ["y"])]
    path = saved(tmp_path / "m.onnx", nodes, {"y": (TensorProto.FLOAT, ("n", 2))}, constants=(weights,))
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="m.data", size_threshold=0)
    (tmp_path / "broken.jpg").write_bytes(b"no image")  # keeps the journal
    assert score_onnx(path, tmp_path / "broken.jpg") == 2
    data = np.fromfile(tmp_path / "m.data", np.float32)
    (data + 1).tofile(tmp_path / "m.data")
    capsys.readouterr()
    assert score_onnx(path, tmp_path / "broken.jpg") == 2
    assert "m.txt.part: ONNX model: was " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "caffemodel",
            "this is a .caffemodel; expected an ONNX model. Score with --prototxt and --caffemodel, or",
        ),
        ("prototxt", "this is a text file (a prototxt?); expected an ONNX model. Score with --prototxt"),
        ("solver state", "this is a solver state (.solverstate); expected an ONNX model"),
        ("tflite", "this is a TensorFlow Lite model (.tflite); expected an ONNX model. Check which file was given"),
        ("text", "this is a text file; expected an ONNX model"),
        ("lfs", "expected an ONNX model. Run `git lfs pull`"),
    ],
)
def test_a_file_of_another_kind_as_onnx(tmp_path, capsys, kind, message):
    (tmp_path / "m.onnx").write_bytes(made_files(tmp_path)[kind][0])
    assert score_onnx(tmp_path / "m.onnx") == 2
    err = capsys.readouterr().err
    assert f"error: {tmp_path / 'm.onnx'}: " in err and message in err and "refuses" not in err


def test_a_damaged_onnx_model_is_one_all_the_same(tmp_path, capsys):
    (tmp_path / "m.onnx").write_bytes(made_files(tmp_path)["onnx"][0][:-9])
    assert score_onnx(tmp_path / "m.onnx") == 2
    assert "m.onnx: ONNX Runtime refuses the model: " in capsys.readouterr().err
