"""ONNX files: clean by the checker, equal to PyTorch in ONNX Runtime, Caffe's names, a free batch, clear refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from small_nets import conv, fully, inputs, layer

import port
from port.layers import REGISTRY
from port.net import run_values
from port.onnx.export import DEFAULT_OPSET, MAX_IR, OPSETS, build_onnx, free_axes
from port.onnx.session import run_onnx, session
from prototxt_gen.base.errors import ExportError, UsageError
from prototxt_gen.schema.text import read_prototxt
from verify.parity.compare import compare
from verify.parity.golden import find_cases, load_case, read_recording

GOLDEN = Path(__file__).parents[2] / "golden"
# float32 against float32, each in its own order of summation; relative to the blob's largest value
TOLERANCE = 5e-6

CASES = [
    case
    for case in find_cases([GOLDEN / "layers", GOLDEN / "edges"])
    if {m.type for m in read_prototxt(case, dialect=case.parts[-2]).message.layer} <= set(REGISTRY)
]


def label(case: Path) -> str:
    return "-".join(case.with_suffix("").parts[-3:])


each_case = pytest.mark.parametrize("case", CASES, ids=label)


def recorded(case: Path):
    recording = read_recording(case)
    _, net = load_case(recording)
    return net, recording.part("in")


def assert_equal_to_torch(found: dict, net, given: dict) -> None:
    expected = {name: tensor.detach().numpy() for name, tensor in run_values(net, given).items()}
    assert found and set(found) <= set(expected)
    for name, array in found.items():
        result = compare(array, expected[name], TOLERANCE, name, nan=True)
        assert result, str(result)


# -- every recorded layer -----------------------------------------------------------------------------------------
@each_case
def test_the_model_is_clean_and_bears_caffes_names(case):
    net, _ = recorded(case)
    model = build_onnx(net, blobs="all")
    onnx.checker.check_model(model, full_check=True)
    shaped = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    assert (model.opset_import[0].domain, model.opset_import[0].version) == ("", DEFAULT_OPSET)
    assert len(model.opset_import) == 1 and model.ir_version <= MAX_IR
    computing = [node for node in net.caffe.nodes if node.layer.kind != "data"]
    values = [value for node in computing for value in node.tops]
    assert [o.name for o in model.graph.output] == [value.name for value in values]
    assert {value.blob for value in values} <= {o.name for o in model.graph.output}
    assert [i.name for i in model.graph.input] == [value.blob for value in net.caffe.inputs]
    assert {node.name for node in model.graph.node} >= {node.name for node in computing if node.tops}
    for output, value in zip(shaped.graph.output, values, strict=True):
        dims = output.type.tensor_type.shape.dim
        assert len(dims) == len(value.shape)
        fixed = [(d.dim_value, extent) for d, extent in zip(dims, value.shape, strict=True) if d.dim_value]
        assert all(dim == extent for dim, extent in fixed)


@each_case
def test_another_batch_size_from_the_same_file(case):
    net, given = recorded(case)
    if not free_axes(net.caffe):  # then the file says so
        inputs = build_onnx(net).graph.input
        assert all(dim.dim_value for i in inputs for dim in i.type.tensor_type.shape.dim)
        return
    # three times the batch, no two thirds in the same order
    larger = {name: np.concatenate([x, x[::-1], np.roll(x, 1, 0)]) for name, x in given.items()}
    runner = session(build_onnx(net, blobs="all"))
    assert_equal_to_torch(run_onnx(runner, larger), net, larger)
    assert_equal_to_torch(run_onnx(runner, given), net, given)


def test_which_recorded_nets_fix_their_batch_size():
    fixed = {case.stem for case in CASES if not free_axes(recorded(case)[0].caffe)}
    known = {
        "lstm",
        "lstm_g",
        "lstm_static_input",
        "lstm_unit",
        "rnn_static_reshape_fc",
        "rnn_g",
        "parameter",
        "batch_reduction_levels",
    }  # state, constants, a count of items
    known |= {
        "bias_axes",
        "ip_axis0",
        "info_norm_2",
        "info_norm_3",
    }  # blobs shaped by axis 0, a matrix as input
    assert fixed <= known


# ONNX Runtime has no newer operator for these.
NEWEST = {"ROIPooling": 21}


@pytest.mark.parametrize("opset", [OPSETS.start, 12, 13, 18, 21, OPSETS.stop - 1])
@pytest.mark.parametrize("dialect", ["bvlc", "srn"])
def test_every_layer_in_every_opset(dialect, opset):
    ran = 0
    for case in (case for case in CASES if case.parts[-3:-1] == ("layers", dialect)):
        net, given = recorded(case)
        if opset > min(NEWEST.get(node.layer.type, opset) for node in net.caffe.nodes):
            with pytest.raises(ExportError, match="opset 21 or lower"):
                build_onnx(net, opset=opset)
            continue
        model = build_onnx(net, opset=opset, blobs="all")
        assert model.opset_import[0].version == opset and model.ir_version <= MAX_IR
        assert_equal_to_torch(run_onnx(session(model), given), net, given)
        ran += 1
    assert ran >= 50


# -- the batch ---------------------------------------------------------------------------------------------------
@pytest.fixture
def load(tmp_path):
    def make(text: str, **options):
        path = tmp_path / "net.prototxt"
        path.write_text(text)
        return port.load_net(path, **options)

    return make


NET = (
    inputs(data=(1, 3, 9, 11))
    + conv("c", "data", "c", 4, 3)
    + layer("n", "BatchNorm", "c", "c", "batch_norm_param { use_global_stats: false }")
    + layer("s", "Scale", "c", "c")
    + layer("r", "ReLU", "c", "c")
    + layer("p", "Pooling", "c", "p", "pooling_param { pool: AVE kernel_size: 3 stride: 2 }")
    + fully("f", "p", "y", 6)
    + layer("x", "Sigmoid", "y", "x")
)


def image(batch: int) -> np.ndarray:
    return np.random.default_rng(batch).standard_normal((batch, 3, 9, 11)).astype(np.float32)


def test_batch_1_and_3_from_one_file(load, tmp_path):
    net = load(NET)
    for blobs in ("outputs", "all"):
        port.export_onnx(net, tmp_path / "net.onnx", blobs=blobs)
        onnx.checker.check_model(str(tmp_path / "net.onnx"), full_check=True)
        runner = session(tmp_path / "net.onnx")
        batch_axis = onnx.load(tmp_path / "net.onnx").graph.input[0].type.tensor_type.shape.dim[0]
        assert batch_axis.dim_param == "N"
        for batch in (1, 3, 5):
            given = {"data": image(batch)}
            assert_equal_to_torch(run_onnx(runner, given), net, given)


def test_the_outputs_are_the_nets_or_all_blobs(load):
    net = load(NET)
    assert [o.name for o in build_onnx(net).graph.output] == ["x"]
    assert [o.name for o in build_onnx(net, blobs="all").graph.output] == [
        "c@c",
        "c@n",
        "c@s",
        "c",
        "p",
        "y",
        "x",
    ]
    shaped = {v.name: v for v in build_onnx(net).graph.value_info}
    assert set(shaped) == {"c@c", "c@n", "c@s", "c", "p", "y"}  # inner values keep name and shape
    assert [d.dim_param or d.dim_value for d in shaped["p"].type.tensor_type.shape.dim] == ["N", 4, 3, 4]


def test_export_is_the_same_every_time(load, tmp_path):
    port.export_onnx(load(NET, seed=4), tmp_path / "a.onnx")
    port.export_onnx(load(NET, seed=4), tmp_path / "b.onnx")
    port.export_onnx(load(NET, seed=5), tmp_path / "c.onnx")
    a, b, c = ((tmp_path / f"{name}.onnx").read_bytes() for name in "abc")
    assert a == b != c


# Layers that work along the batch itself, or move it to another axis.
ALONG_THE_BATCH = {
    "concat": layer("l", "Concat", "data other", "y", "concat_param { axis: 0 }"),
    "tile": layer("l", "Tile", "data", "y", "tile_param { axis: 0 tiles: 3 }"),
    "flatten": layer("l", "Flatten", "data", "y", "flatten_param { axis: 0 end_axis: 1 }"),
    "flatten all": layer("l", "Flatten", "data", "y", "flatten_param { axis: 0 }"),
    "reshape": layer("l", "Reshape", "data", "y", "reshape_param { shape { dim: -1 dim: 4 } }"),
    "reshape to fixed": layer("l", "Reshape", "data", "y", "reshape_param { shape { dim: 2 dim: -1 dim: 4 } }"),
    "sum": layer("l", "Reduction", "data", "y", "reduction_param { axis: 0 operation: MEAN coeff: 3 }"),
    "mean": layer("l", "Reduction", "data", "y", "reduction_param { axis: 1 operation: ASUM }"),
    "softmax": layer("l", "Softmax", "data", "y", "softmax_param { axis: 0 }"),
    "slice": layer("l", "Slice", "data", "y z", "slice_param { axis: 0 }"),
    "crop": layer("l", "Crop", "data other", "y", "crop_param { axis: 1 offset: 0 }"),
    "loss": layer("l", "EuclideanLoss", "data other", "y"),
    "convolution": conv("l", "data", "y", 4).replace("kernel_size", "axis: 2 kernel_size"),
    "scale": layer("l", "Scale", "data", "y", "scale_param { axis: -1 bias_term: true }"),
    "inner product": fully("l", "data", "y", 5).replace("num_output", "axis: 2 num_output"),
    "argmax": layer("l", "ArgMax", "data", "y", "argmax_param { axis: 0 top_k: 2 }"),
    "mvn": layer("l", "MVN", "data", "y"),
}


@pytest.mark.parametrize("name", ALONG_THE_BATCH)
def test_layers_along_the_batch(load, name):
    net = load(inputs(data=(2, 3, 5, 4), other=(2, 3, 5, 4)) + ALONG_THE_BATCH[name], dialect="bvlc")
    runner = session(build_onnx(net, blobs="all"))
    for batch in (2, 6) if free_axes(net.caffe) else (2,):
        shape = (batch, 3, 5, 4)
        random = np.random.default_rng(batch)
        given = {key: random.standard_normal(shape).astype(np.float32) for key in ("data", "other")}
        assert_equal_to_torch(run_onnx(runner, given), net, given)


def test_a_net_that_fixes_its_batch_says_so_in_the_file(load):
    net = load(inputs(data=(2, 3, 5)) + fully("f", "data", "y", 4).replace("num_output", "axis: 0 num_output"))
    model = build_onnx(net)
    assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [2, 3, 5]
    runner = session(model)
    given = {"data": np.ones((2, 3, 5), np.float32)}
    assert_equal_to_torch(run_onnx(runner, given), net, given)
    with pytest.raises(Exception, match="invalid dimensions"):
        run_onnx(runner, {"data": np.ones((3, 3, 5), np.float32)})


# -- refusals ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("opset", [0, 10, OPSETS.stop, 99, -1])
def test_opsets_out_of_range(load, tmp_path, opset):
    with pytest.raises(UsageError, match=f"opset {opset}; expected 11 to 26"):
        port.export_onnx(load(NET), tmp_path / "net.onnx", opset=opset)
    assert not (tmp_path / "net.onnx").exists()


def test_an_unknown_choice_of_blobs(load, tmp_path):
    with pytest.raises(UsageError, match="blobs='some'; expected 'outputs' or 'all'"):
        port.export_onnx(load(NET), tmp_path / "net.onnx", blobs="some")


def test_what_onnx_cannot_express_is_all_listed(load, tmp_path):
    text = NET + layer("drop1", "Dropout", "x", "d1") + layer("drop2", "Dropout", "x", "d2")
    assert build_onnx(load(text))
    net = load(text, phase="TRAIN")
    with pytest.raises(ExportError) as caught:
        port.export_onnx(net, tmp_path / "net.onnx")
    found = caught.value.problems
    assert [(p.layer, p.line, p.found) for p in found] == [
        ("drop1", 10, "Dropout in TRAIN phase"),
        ("drop2", 11, "Dropout in TRAIN phase"),
    ]
    assert all("TEST phase" in p.expected and p.fix == "load with phase='TEST'" for p in found)
    assert not (tmp_path / "net.onnx").exists()


def test_no_silent_fallback_to_the_cpu(load, monkeypatch):
    model = build_onnx(load(NET))
    assert session(model, device="cpu").get_providers() == ["CPUExecutionProvider"]
    with pytest.raises(UsageError, match="device 'tpu'; expected cpu or cuda"):
        session(model, device="tpu")
    # as on a machine without CUDA, whatever this one has: ONNX Runtime warns and goes on on the CPU
    import onnxruntime as ort

    cpu_only = session(model)
    monkeypatch.setattr(ort, "InferenceSession", lambda *args, **options: cpu_only)
    with pytest.raises(ExportError, match="ONNX Runtime does not run on cuda here: it offers CPUExecutionProvider"):
        session(model, device="cuda")


def test_cuda_is_used_or_refused(load):
    model = build_onnx(load(NET))
    try:
        runner = session(model, device="cuda")
    except ExportError as error:
        assert "does not run on cuda here" in str(error)
    else:
        assert runner.get_providers()[0] == "CUDAExecutionProvider"
