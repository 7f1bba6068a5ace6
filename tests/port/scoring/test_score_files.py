"""port score and what it cannot use: images that do not decode, nets that do not fit, options that do not."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import tifffile
import torch
from scoring_runs import BATCH, CLASSES, HEIGHT, IMAGES, WIDTH, scenes, score, tiny_net
from small_nets import fully, inputs, layer

import port
from port.__main__ import main
from port.scoring import compute_scores
from port.scoring.batches import Pipeline, cut
from port.scoring.compute import fit_lanes
from port.scoring.engines import OnnxEngine, TorchEngine
from prototxt_gen.base import command
from prototxt_gen.base.errors import CaffeError, DataError, ExportError, NetError, UsageError
from verify.evaluation.scores import read_scores

BROKEN = {6: b"no image", 7: b"", 30: None}  # place in the list -> content; None: no file


@pytest.fixture
def broken(tmp_path) -> Path:
    """The scenes with three images that cannot be read, in two batches."""
    root = tmp_path / "images"
    shutil.copytree(scenes(), root)
    for place, content in BROKEN.items():
        path = root / "val" / f"{place:04}.jpg"
        path.unlink() if content is None else path.write_bytes(content)
    (root / "val" / "0030.jpg").write_bytes((scenes() / "val" / "0030.jpg").read_bytes()[:400])
    return root


def counted(monkeypatch) -> list[int]:
    """How many blocks are computed from now on, in the length of the list."""
    blocks: list[int] = []
    run = TorchEngine.run
    monkeypatch.setattr(TorchEngine, "run", lambda *a: (blocks.append(1), run(*a))[1])
    return blocks


def test_unreadable_images_are_listed_and_only_their_batches_computed_again(broken, tmp_path, capsys, monkeypatch):
    output = tmp_path / "scores.txt"
    assert score(output, root=broken) == 2
    said = capsys.readouterr().err
    for place in BROKEN:
        assert f"val/{place:04}.jpg: cannot be read" in said
    assert f"3 of {IMAGES} images cannot be read. Mend them and run the same command" in said
    assert not output.exists() and (tmp_path / "scores.txt.part").exists()

    blocks = counted(monkeypatch)
    assert score(output, root=broken) == 2 and not blocks  # nothing changed, so there is nothing to compute
    for place in (6, 7):
        shutil.copy(scenes() / "val" / f"{place:04}.jpg", broken / "val")
    assert score(output, root=broken) == 2 and len(blocks) == 1
    assert "val/0030.jpg" in capsys.readouterr().err
    shutil.copy(scenes() / "val" / "0030.jpg", broken / "val")
    assert score(output, root=broken) == 0 and len(blocks) == 2
    assert score(tmp_path / "all.txt") == 0
    assert output.read_bytes() == (tmp_path / "all.txt").read_bytes()


def test_a_damaged_tiff_is_said_once(tmp_path, capsys, caplog):
    path = tmp_path / "damaged.tif"
    tifffile.imwrite(path, np.zeros((5, 7), np.uint16), photometric="minisblack")
    whole = path.read_bytes()
    path.write_bytes(whole[:22] + b"\xff\xff" + whole[24:])  # a tag of no known type
    line = ["--prototxt", tiny_net(), "--caffemodel", tiny_net().with_suffix(".caffemodel")]
    assert command.run(main, list(map(str, ["score", *line, "--output", tmp_path / "scores.txt", path]))) == 2
    assert capsys.readouterr().err.count("damaged.tif") == 1
    assert not [record for record in caplog.records if record.name == "tifffile"]


def test_allowed_ones_have_no_row_and_are_listed(broken, tmp_path, capsys):
    output, left = tmp_path / "scores.txt", tmp_path / "scores.left_out.txt"
    (broken / "val" / "0030.jpg").unlink()
    assert score(output, "--allow-unreadable", root=broken) == 0
    assert "3 images cannot be read and have no row: " in capsys.readouterr().out
    lines = [line.split("\t") for line in left.read_text().splitlines()]
    assert [int(line[0]) for line in lines] == [7, 8, 31]
    assert lines[2][1:] == [str(broken / "val" / "0030.jpg"), "there is no such file"]
    assert score(tmp_path / "all.txt") == 0
    expected = np.delete(read_scores(tmp_path / "all.txt"), [6, 7, 30], axis=0)
    assert np.array_equal(read_scores(output), expected)
    assert score(output) == 0 and not left.exists()  # a list of an earlier run must not stay


def test_no_readable_image_at_all_is_never_allowed(tmp_path, capsys):
    (tmp_path / "a.jpg").write_bytes(b"no image")
    net = ["--prototxt", str(tiny_net()), "--caffemodel", str(tiny_net().with_suffix(".caffemodel"))]
    line = ["score", *net, "--output", str(tmp_path / "s.txt"), "--allow-unreadable", str(tmp_path)]
    assert command.run(main, [*line, "--device", "cpu"]) == 2
    assert "1 of 1 images cannot be read" in capsys.readouterr().err and not (tmp_path / "s.txt").exists()


def test_missing_images_are_said_before_anything_is_computed(broken, tmp_path, capsys, monkeypatch):
    (broken / "val" / "0030.jpg").unlink()
    blocks = counted(monkeypatch)
    assert score(tmp_path / "scores.txt", root=broken) == 2 and not blocks
    assert "list.txt:31: there is no image" in capsys.readouterr().err


def test_another_way_to_resize_says_what_it_changes(tmp_path, capsys):
    assert score(tmp_path / "scores.txt", "--resize", "antialias") == 0
    said = capsys.readouterr().out
    assert "--resize antialias differs from the authors' way, on 8 images: by up to " in said
    assert score(tmp_path / "authors.txt") == 0
    assert "differs" not in capsys.readouterr().out
    of_both = [read_scores(tmp_path / name) for name in ("scores.txt", "authors.txt")]
    assert np.abs(of_both[0] - of_both[1]).max() > 1e-3


def saved(tmp_path, text: str) -> Path:
    (tmp_path / "net.prototxt").write_text(text)
    port.save_caffemodel(port.load_net(tmp_path / "net.prototxt"), tmp_path / "net.caffemodel")
    return tmp_path / "net.prototxt"


def test_a_net_that_gives_no_number_is_stopped_with_the_images_name(tmp_path, capsys):
    text = inputs(data=(1, 3, HEIGHT, WIDTH)) + layer("log", "Log", "data", "x")  # of negative values
    net = saved(tmp_path, text + fully("fc", "x", "y", 2))
    assert score(tmp_path / "scores.txt", net=net) == 2
    assert ".jpg: the net gives nan for this image; expected finite scores" in capsys.readouterr().err
    assert not (tmp_path / "scores.txt").exists()


def test_a_net_that_fixes_the_batch(tmp_path, capsys):
    shape = f"reshape_param {{ shape {{ dim: 3 dim: {3 * HEIGHT * WIDTH} }} }}"
    net = saved(
        tmp_path,
        inputs(data=(3, 3, HEIGHT, WIDTH)) + layer("r", "Reshape", "data", "x", shape) + fully("fc", "x", "y", 2),
    )
    assert score(tmp_path / "scores.txt", net=net) == 2
    assert f"--batch {BATCH}, and the net computes batches of 3 only" in capsys.readouterr().err
    assert score(tmp_path / "scores.txt", "--batch", 3, net=net) == 0
    assert read_scores(tmp_path / "scores.txt").shape == (IMAGES, 2)


def test_nets_that_score_no_single_images_are_refused(tmp_path, capsys):
    two = inputs(data=(1, 3, 8, 9), other=(1, 3, 8, 9)) + layer("e", "Eltwise", "data other", "y")
    assert score(tmp_path / "s.txt", net=saved(tmp_path, two)) == 2
    assert "expected one, of shape (N, 3, height, width)" in capsys.readouterr().err
    assert score(tmp_path / "s.txt", "--blob", "score") == 2
    assert "'score' is no output of the net: did you mean 'scores'?" in capsys.readouterr().err


def test_options_that_do_not_go_together_are_all_named(tmp_path, capsys):
    line = ["score", "--output", str(tmp_path), "--prototxt", "a", "--onnx", "b", "--batch", "0", "--image-list", "c"]
    assert command.run(main, line) == 2
    said = capsys.readouterr().err
    parts = ("both a Caffe net and --onnx", "--batch 0; expected 1 or more", "--image-root go together", "is a folder")
    assert all(part in said for part in parts) and said.count("error: ") == 4
    assert command.run(main, ["score", "--output", str(tmp_path / "s")]) == 2
    said = capsys.readouterr().err
    assert "no net; expected one net" in said and "no images; expected one of them" in said
    with pytest.raises(SystemExit):
        command.run(main, ["score", "--output", "s", "--mean", "1,2"])
    assert "expected three numbers, blue, green and red" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_never_replaced(tmp_path, capsys):
    assert score(tmp_path / "s.txt", "--device", "cuda") == 2
    assert "the device 'cuda' cannot be used" in capsys.readouterr().err
    assert score(tmp_path / "s.txt", "--device", "cuda", "--runtime", "onnxruntime") == 2
    said = capsys.readouterr().err
    assert "ONNX Runtime does not run on cuda:0 here" in said or "refuses the model" in said
    assert score(tmp_path / "s.txt", "--device", "tpu", "--runtime", "onnxruntime") == 2
    assert "the device 'tpu' is unknown; expected cpu, cuda or cuda:N" in capsys.readouterr().err
    assert not (tmp_path / "s.txt").exists()
    model = tmp_path / "tiny.onnx"
    port.export_onnx(port.load_net(tiny_net()), model)
    with pytest.raises(ExportError, match=r"does not run on cuda:0 here|refuses the model"):
        OnnxEngine(model, "cuda:0")


def test_foreign_onnx_files(tmp_path, capsys):
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"\1no model")
    with pytest.raises(ExportError, match=r"bad\.onnx: ONNX Runtime refuses the model"):
        OnnxEngine(path, "cpu")
    node = onnx.helper.make_node("Flatten", ["x"], ["y"])
    info = onnx.helper.make_tensor_value_info
    for shape, kind in (((1, 3, "h", "w"), NetError), ((1, 1, 8, 8), NetError), ((2, 3, 8, 9), None)):
        x, y = info("x", onnx.TensorProto.FLOAT, shape), info("y", onnx.TensorProto.FLOAT, (shape[0], 216))
        graph = onnx.helper.make_graph([node], "g", [x], [y])
        onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
        if kind:
            with pytest.raises(kind, match="expected one, of shape"):
                OnnxEngine(path, "cpu")
        else:
            engine = OnnxEngine(path, "cpu")
            assert (engine.batch, engine.classes, engine.output) == (2, 216, "y")


def test_the_library_stops_at_the_first_unreadable_image(broken):
    net = port.load_net(tiny_net(), tiny_net().with_suffix(".caffemodel"))
    paths = sorted((broken / "val").iterdir())
    with pytest.raises(DataError, match=r"0006\.jpg: cannot be read"):
        compute_scores(net, paths[:9], batch=BATCH, device="cpu")
    threads = torch.get_num_threads()
    assert compute_scores(net, paths[:6], batch=BATCH, device="cpu").shape == (6, CLASSES)
    assert torch.get_num_threads() == threads
    with pytest.raises(UsageError, match="the device 'tpu' is unknown; expected cpu, cuda or cuda:N"):
        compute_scores(net, paths[:2], device="tpu")


class Failing:
    """An engine that fails as a runtime does."""

    height, width, output, classes, lanes, batch, footprint = 3, 4, "y", 2, 2, None, 100
    facts = {"device": "cpu"}  # noqa: RUF012

    def __init__(self, error: Exception):
        self.error = error

    def using(self):
        return torch.inference_mode()

    def run(self, block):
        raise self.error


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (RuntimeError("CUDA out of memory. Tried"), CaffeError, "out of memory: .*Use a smaller --batch"),
        (MemoryError(), CaffeError, "out of memory"),
        (NetError("bad net"), NetError, "bad net"),
        (ZeroDivisionError("a defect"), ZeroDivisionError, "a defect"),
    ],
)
def test_what_goes_wrong_in_a_thread_is_said_in_the_main_one(error, kind, said):
    batches = cut([Path("a"), Path("b"), Path("c")], 2)
    load = lambda path: np.zeros((3, 3, 4), np.float32)  # noqa: E731
    with Pipeline(Failing(error), batches, 2, load) as pipeline, pytest.raises(kind, match=said):
        while pipeline.left:
            list(pipeline.finished(1.0))


def test_batches_are_padded_and_cut_at_fixed_places():
    paths = [Path(str(i)) for i in range(7)]
    assert [(b.index, b.start, len(b.paths)) for b in cut(paths, 3)] == [(0, 0, 3), (1, 3, 3), (2, 6, 1)]
    blocks = []

    class Seeing(Failing):
        def run(self, block):
            blocks.append(block.copy())
            return block.sum((1, 2, 3))[:, None] * np.ones((1, 2), np.float32)

    load = lambda path: np.full((3, 3, 4), float(path.name) + 1, np.float32)  # noqa: E731
    with Pipeline(Seeing(ValueError()), cut(paths, 3), 3, load, workers=3) as pipeline:
        found = {}
        while pipeline.left:
            found |= {scored.index: scored.scores for scored in pipeline.finished(1.0)}
    assert all(block.shape == (3, 3, 3, 4) for block in blocks)
    assert np.concatenate([found[i][:, 0] for i in range(3)]).tolist() == [36.0 * (i + 1) for i in range(7)]
    assert sorted(block[2].sum() for block in blocks)[0] == 0  # the last batch's surplus rows


@pytest.mark.parametrize(("free", "lanes"), [(None, 2), (10**9, 2), (4400, 2), (3999, 1), (0, 1)])
def test_fewer_batches_at_once_where_memory_is_short(free, lanes):
    engine = Failing(ValueError())
    fit_lanes(engine, 10, free)
    assert engine.lanes == lanes
    fit_lanes(engine, 10, 9000, sharers=4)
    assert engine.lanes == 1


def test_the_footprint_is_that_of_the_largest_blob():
    net = port.load_net(tiny_net())
    assert TorchEngine(net, "cpu").footprint == 5 * 4 * 9 * (HEIGHT - 4) * (WIDTH - 4)
