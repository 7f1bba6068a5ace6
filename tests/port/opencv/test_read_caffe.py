"""port.opencv: Caffe files in OpenCV by way of ONNX, with either OpenCV; against PyTorch and recorded Caffe."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_nets import conv, fully, inputs, layer

import port
import port.opencv
from port.opencv import cache, convert
from port.opencv import net as opencv_net
from prototxt_gen.base.errors import CaffeWarning, ExportError, NetError, UsageError, WeightsError
from reference_weights.seed import write_for_net
from verify.parity.golden import read_recording

GOLDEN = Path(__file__).parents[2] / "golden"
# float32 sums in another order; OpenCV's Winograd convolutions are ten times coarser (measured: 4e-6)
SAME = 5e-5

NET = (
    inputs(data=(1, 3, 12, 17))
    + conv("conv1", "data", "conv1", 4, 3)
    + layer("relu1", "ReLU", "conv1", "conv1")
    + layer("pool1", "Pooling", "conv1", "pool1", "pooling_param { kernel_size: 3 stride: 2 }")
    + layer("global", "Pooling", "pool1", "global", "pooling_param { pool: AVE global_pooling: true }")
    + fully("fc", "global", "scores", 6)
    + layer("prob", "Softmax", "scores", "prob")
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "kept"))
    return tmp_path / "kept"


@pytest.fixture
def files(tmp_path) -> tuple[Path, Path]:
    prototxt, caffemodel = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    prototxt.write_text(NET)
    write_for_net(prototxt, "7", caffemodel)
    return prototxt, caffemodel


def image(*shape: int) -> np.ndarray:
    return np.random.RandomState(sum(shape)).standard_normal(shape).astype(np.float32) * 20


def error(found: np.ndarray, wanted: np.ndarray) -> float:
    assert found.shape == wanted.shape
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def blobs(files, x: np.ndarray) -> dict[str, np.ndarray]:
    return port.run_blobs(port.load_net(*files, input_shapes={"data": x.shape}), {"data": x})


def test_passes_by_name_list_and_without(files):
    net = port.opencv.readNetFromCaffe(str(files[0]), str(files[1]))
    assert isinstance(net, cv2.dnn.Net) and not net.empty()
    x = image(1, 3, 12, 17)
    net.setInput(x, "data")
    wanted = blobs(files, x)
    assert error(net.forward(), wanted["prob"]) <= SAME
    assert error(net.forward("pool1"), wanted["pool1"]) <= SAME
    assert error(net.forward("scores"), wanted["scores"]) <= SAME  # a blob's name
    assert error(net.forward("fc"), wanted["scores"]) <= SAME  # its layer's, which OpenCV 4 wants
    first, second = net.forward(["prob", "pool1"])
    assert error(first, wanted["prob"]) <= SAME and error(second, wanted["pool1"]) <= SAME
    assert (net.forward("conv1") < 0).any() and error(net.forward("relu1"), wanted["conv1"]) <= SAME
    net.setInput(x + 1)  # the only input needs no name
    assert error(net.forward("prob"), wanted["prob"]) > 10 * SAME  # another image would be noticed


def test_names_are_caffes(files):
    net = port.opencv.readNetFromCaffe(*files)
    assert net.getUnconnectedOutLayersNames() == ["prob"]
    assert net.getLayerNames() == ["conv1", "relu1", "pool1", "global", "fc", "prob"]
    assert [net.getLayerNames()[i - 1] for i in net.getUnconnectedOutLayers()] == ["prob"]
    assert net.getLayersCount("Pooling") == 2 and net.getLayerId("nothing") == -1
    with pytest.raises(NetError, match="no layer or blob 'prop'"):
        net.forward("prop")
    with pytest.raises(NetError, match="no input 'date'"):
        net.setInput(image(1, 3, 12, 17), "date")


@pytest.mark.parametrize("shape", [(3, 3, 12, 17), (1, 3, 20, 15), (2, 3, 9, 31)])
def test_it_follows_the_shapes_of_its_inputs(files, shape):
    """As OpenCV 4's reader did, whose ONNX reader gives wrong numbers for other batches than a file's own."""
    net = port.opencv.readNetFromCaffe(*files)
    for each in (shape, (1, 3, 12, 17), shape):
        net.setInput(image(*each))
        assert error(net.forward(), blobs(files, image(*each))["prob"]) <= SAME
    plain = net.plain()
    assert type(plain) is cv2.dnn.Net and error(plain.forward("prob"), net.forward()) == 0


def test_settings_reach_every_conversion(files):
    net = port.opencv.readNetFromCaffe(*files)
    net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    net.setPreferableTarget(cv2.dnn.DNN_TARGET_CPU)
    net.enableFusion(False)
    net.enableWinograd(False)
    for shape in ((1, 3, 12, 17), (2, 3, 12, 17)):
        net.setInput(image(*shape))
        assert error(net.forward(), blobs(files, image(*shape))["prob"]) <= SAME


def test_the_arguments_of_set_input(files):
    net = port.opencv.readNetFromCaffe(*files)
    x = np.random.RandomState(1).randint(0, 255, (1, 3, 12, 17)).astype(np.float32)
    net.setInput(x, "data", 0.5, (10, 20, 30))
    mean = np.array([10, 20, 30], np.float32).reshape(1, 3, 1, 1)
    assert error(net.forward(), blobs(files, (x - mean) * np.float32(0.5))["prob"]) <= SAME


@pytest.mark.parametrize("kind", [bytes, bytearray, lambda data: np.frombuffer(data, np.uint8)])
def test_buffers(files, folder, kind):
    net = port.opencv.readNetFromCaffe(*(kind(path.read_bytes()) for path in files))
    x = image(1, 3, 12, 17)
    net.setInput(x)
    assert error(net.forward(), blobs(files, x)["prob"]) <= SAME
    port.opencv.readNetFromCaffe(*files)  # the same content by path
    assert len(list(folder.glob("*.onnx"))) == 1


def test_what_is_not_a_file_is_refused(files, tmp_path):
    with pytest.raises(UsageError, match="array of float32"):
        port.opencv.readNetFromCaffe(np.zeros(3, np.float32))
    with pytest.raises(NetError, match=r"none\.prototxt.*cannot read"):
        port.opencv.readNetFromCaffe(tmp_path / "none.prototxt")
    with pytest.raises(WeightsError, match="no caffemodel is given; expected the weights of conv1, fc"):
        port.opencv.readNetFromCaffe(files[0])
    with pytest.raises(UsageError, match="no prototxt is given"):
        port.opencv.readNetFromCaffe("", files[1])
    with pytest.raises(Exception, match=r"\(prototxt in memory\)"):
        port.opencv.readNetFromCaffe(b"layer { name: 3 }", files[1].read_bytes())


# -- the cache ------------------------------------------------------------------------------------------------
def test_a_conversion_is_kept_by_content(files, folder, monkeypatch):
    port.opencv.readNetFromCaffe(*files)
    assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".onnx"]
    called = []
    monkeypatch.setattr("port.opencv.source.convert", lambda *a: called.append(a) or convert.convert(*a))
    port.opencv.readNetFromCaffe(*files)
    assert not called
    write_for_net(files[0], "8", files[1])
    port.opencv.readNetFromCaffe(*files)
    assert len(called) == 1 and len(list(folder.iterdir())) == 4
    next(folder.glob("*.json")).write_text("{")  # damaged: made again
    port.opencv.readNetFromCaffe(*files)
    for path in folder.glob("*.onnx"):
        path.unlink()
    port.opencv.readNetFromCaffe(*files)
    assert len(called) >= 2


def test_a_folder_that_cannot_be_written(files, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "file" / "below"))
    with pytest.warns(CaffeWarning, match=rf"not kept.*Set {cache.VARIABLE}"):
        net = port.opencv.readNetFromCaffe(*files)
    net.setInput(image(1, 3, 12, 17))
    assert net.forward().shape == (1, 6)


def test_two_processes_at_once(files, folder):
    code = "import sys, port.opencv; print(port.opencv.readNetFromCaffe(*sys.argv[1:]).getLayerNames()[-1])"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    calls = [
        subprocess.Popen([sys.executable, "-c", code, *map(str, files)], stdout=subprocess.PIPE, env=environment)
        for _ in range(2)
    ]
    assert [call.communicate()[0].strip() for call in calls] == [b"prob", b"prob"]
    assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".onnx"]


def test_where_the_folder_is(monkeypatch):
    monkeypatch.delenv(cache.VARIABLE)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache.cache_folder() == Path("/somewhere/caffe-srn/opencv")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_folder() == Path.home() / ".cache/caffe-srn/opencv"


def test_few_nets_stay_in_memory(files):
    net = port.opencv.readNetFromCaffe(*files)
    for wide in range(10, 17):
        net.setInput(image(1, 3, 12, wide))
        net.forward()
    assert len(net._nets) == opencv_net.KEPT


# -- install ----------------------------------------------------------------------------------------------------
def test_an_old_program_with_one_line_more(files, monkeypatch):
    monkeypatch.delattr(cv2.dnn, "readNetFromCaffe", raising=False)
    monkeypatch.setattr(cv2.dnn, "readNet", cv2.dnn.readNet)
    assert port.opencv.install() is True
    x = image(1, 3, 12, 17)
    wanted = blobs(files, x)["prob"]
    for net in (
        cv2.dnn.readNetFromCaffe(str(files[0]), str(files[1])),
        cv2.dnn.readNetFromCaffe(prototxt=str(files[0]), caffeModel=str(files[1])),
        cv2.dnn.readNet(str(files[1]), str(files[0])),
        cv2.dnn.readNet(str(files[0]), str(files[1])),
    ):
        net.setInput(x)
        assert error(net.forward(), wanted) <= SAME
    assert port.opencv.install() is False


def test_a_reader_that_is_there_stays(monkeypatch):
    own = object()
    monkeypatch.setattr(cv2.dnn, "readNetFromCaffe", own, raising=False)
    assert port.opencv.install() is False and cv2.dnn.readNetFromCaffe is own


# -- what this OpenCV computes ------------------------------------------------------------------------------------
def test_a_wrong_number_of_opencvs_is_found_before_it_is_used(files, monkeypatch):
    """Were its reader to take another weight, the conversion would be refused, by layer."""
    right = convert.build_onnx

    def wrong(net, **options):
        model = right(net, **options)
        weight = next(each for each in model.graph.initializer if each.name.startswith("conv1/"))
        weight.raw_data = (np.frombuffer(weight.raw_data, np.float32) * np.float32(1.1)).tobytes()
        return model

    monkeypatch.setattr(convert, "build_onnx", wrong)
    with pytest.raises(ExportError, match=rf"layer 'conv1': OpenCV {cv2.__version__} computes it otherwise: off by"):
        port.opencv.readNetFromCaffe(*files)


@pytest.mark.parametrize(("name", "at"), [("layers/bvlc/filter", "y"), ("community/synopsys/roialign_0", "r")])
def test_a_layer_that_opencv_lacks_is_named(name, at):
    path = GOLDEN / f"{name}.prototxt"
    with pytest.raises(ExportError, match=rf"layer '{at}': OpenCV {cv2.__version__} cannot compute"):
        port.opencv.readNetFromCaffe(path, path.with_suffix(".caffemodel"), packs=["synopsys"])


def test_the_first_layer_that_fails_is_found_by_halving(files):
    net = port.load_net(*files)
    model = convert.build_onnx(net, target="opencv", blobs="all")
    inputs = {"data": image(1, 3, 12, 17)}
    assert convert.first_failing(net.caffe, model.SerializeToString(), inputs) == ""
    next(each for each in model.graph.node if each.name == "global").op_type = "Unheard"
    assert convert.first_failing(net.caffe, model.SerializeToString(), inputs) == "global"


RECORDED = {
    "layers/bvlc": ["convolution_1", "deconvolution_1", "lrn_0", "inner_product_0", "eltwise_sum_coeff", "log_0"],
    "community/synopsys": ["roipooling_0", "permute_1"],
}
CASES = [(folder, name) for folder, names in RECORDED.items() for name in names]


@pytest.mark.parametrize(("folder_name", "name"), [c for c in CASES if (GOLDEN / c[0] / f"{c[1]}.npz").exists()])
def test_recorded_nets(folder_name, name):
    """A few of what the page counts; docs/runtimes.md has all."""
    path = GOLDEN / folder_name / f"{name}.prototxt"
    recording = read_recording(path)
    net = port.opencv.readNetFromCaffe(path, path.with_suffix(".caffemodel"), dialect=recording.dialect)
    for blob, values in recording.part("in").items():
        net.setInput(values, blob)
    compared = 0
    for blob, values in recording.part("blob").items():
        if blob in net.getLayerNames():
            assert error(net.forward(blob).reshape(values.shape), values) <= SAME
            compared += 1
    assert compared


def rows(detections: np.ndarray) -> np.ndarray:
    found = detections.reshape(-1, 7)
    found = found[found[:, 2] > 0]
    return found[np.lexsort((found[:, 3], -found[:, 2], found[:, 1], found[:, 0]))]


@pytest.mark.parametrize("name", [*(f"detection_output_{i}" for i in range(5)), "net_ssd_head"])
def test_recorded_detections(name):
    """Code types, shared and own places, variances inside and outside, keep_top_k -1, two items, an input unread."""
    path = GOLDEN / "community" / "synopsys" / f"{name}.prototxt"
    recording = read_recording(path)
    net = port.opencv.readNetFromCaffe(path, path.with_suffix(".caffemodel"), packs=["ssd"])
    for blob, values in recording.part("in").items():
        net.setInput(values, blob)
    (end,) = net.getUnconnectedOutLayersNames()
    found, wanted = rows(net.forward()), rows(recording.part("blob")[end])
    assert found.shape == wanted.shape and len(wanted) and np.abs(found - wanted).max() <= 1e-6
