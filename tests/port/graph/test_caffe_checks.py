"""What Caffe refuses when it sets a net up, we refuse, and what stands beside it and Caffe takes, we take.

`caffe_checks.tsv` has a net of one layer in each row: the section of docs/semantics.md, the dialects, the type, its
bottoms' shapes, its number of tops (or `in place`), its fields, and the field that the refusal names
(`a|b`: either), or `accepted`.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from small_nets import fully, inputs, layer

import port
from port.caffemodel import write_net
from port.graph.reference import run_reference
from port.layers import REGISTRY
from prototxt_gen.base.errors import CaffeError, NetError, Problem
from prototxt_gen.schema import message_class
from prototxt_gen.schema.text import parse_prototxt

with open(Path(__file__).with_name("caffe_checks.tsv"), encoding="utf-8", newline="") as _table:
    ROWS = list(csv.DictReader(_table, delimiter="\t", quoting=csv.QUOTE_NONE))
CASES = [
    pytest.param(row, dialect, id=f"{row['semantics']}-{dialect}-{row['type']}-{row['bottoms']}-{row['fields']}"[:90])
    for row in ROWS
    for dialect in (("bvlc", "srn") if row["dialects"] == "both" else (row["dialects"],))
]


def net_of(row: dict[str, str]) -> str:
    """The net of a row: inputs d0, d1, ... of the bottoms' shapes, and the layer `y`."""
    shapes = [] if row["bottoms"] == "-" else row["bottoms"].split(", ")
    names = [f"d{shapes.index(shape)}" for shape in shapes]  # a shape that stands there twice is one input
    text = ""
    for name, shape in dict(zip(names, shapes, strict=True)).items():
        text += inputs(**{name: tuple(map(int, shape.split("x"))) if shape != "()" else ()})
    tops = names[:1] if row["tops"] == "in place" else [f"y{i}" for i in range(int(row["tops"]))]
    text += layer("y", row["type"], " ".join(names), " ".join(tops), row["fields"].removeprefix("-"))
    if REGISTRY[row["type"]].kind == "data":  # some layer must compute
        text += layer("s", "Silence", " ".join(tops))
    return text


def problems(text: str, dialect: str, **options) -> list[Problem]:
    """What is wrong with a net."""
    with pytest.raises(NetError) as caught:
        port.load_net(parse_prototxt(text, dialect=dialect), **options)
    return caught.value.problems


@pytest.mark.parametrize(("row", "dialect"), CASES)
def test_a_check_of_caffes(row, dialect):
    text = net_of(row)
    if row["refused"] == "accepted":
        assert port.load_net(parse_prototxt(text, dialect=dialect))
        return
    (problem,) = problems(text, dialect)
    assert problem.layer == "y" and problem.field in row["refused"].split("|")
    assert problem.found and (problem.expected or problem.fix)


def test_the_table_has_both_sides_of_both_dialects():
    accepted = [case.values for case in CASES if case.values[0]["refused"] == "accepted"]
    assert 80 < len(accepted) < len(CASES) / 2
    assert {dialect for _, dialect in accepted} == {"bvlc", "srn"}


# -- what a table of single layers cannot say ---------------------------------------------------------------
@pytest.mark.parametrize(("dialect", "most"), [("bvlc", 32), ("srn", 64)])
def test_blobs_have_so_many_axes_at_most(dialect, most):
    """In `srn` it is NumPy that knows no more."""
    text = inputs(d=(1,) * most) + layer("y", "ReLU", "d", "y")
    net = port.load_net(parse_prototxt(text, dialect=dialect))
    assert port.run_blobs(net, {"d": np.ones((1,) * most)})["y"].ndim == most
    wider = "1x" * most + "1"
    (problem,) = problems(inputs(d=(1,) * (most + 1)) + layer("y", "ReLU", "d", "y"), dialect)
    assert f"{wider} with {most + 1} axes" in problem.found and problem.expected == f"{most} at most"
    shape = "dim: 1 " * (most + 1)
    (problem,) = problems(
        inputs(d=(1,)) + layer("y", "Reshape", "d", "y", f"reshape_param {{ shape {{ {shape}}} }}"), dialect
    )
    assert problem.layer == "y" and wider in problem.found


def test_every_input_has_four_dimensions_in_the_fork():
    text = 'input: "d" input_dim: 2 input_dim: 3 input_dim: 4\n' + layer("y", "ReLU", "d", "y")
    (problem,) = problems(text, "srn")
    assert problem.found == "1 inputs and 3 input_dim" and "four input_dim" in problem.expected


FILLED = 'inner_product_param { num_output: 3 weight_filler { type: "gausian" } }'


@pytest.mark.parametrize("dialect", ["bvlc", "srn"])
def test_fillers_are_refused_though_the_blobs_are_loaded(tmp_path, dialect):
    """Caffe fills every blob before it loads any."""
    weights = message_class("NetParameter", dialect)()
    weights.layer.add(name="y", type="InnerProduct")
    write_net(tmp_path / "w.caffemodel", weights, [[np.ones(shape, np.float32) for shape in ((3, 3), 3)]])
    text = inputs(d=(2, 3)) + layer("y", "InnerProduct", "d", "y", FILLED)
    with pytest.raises(NetError, match="the filler type 'gausian'; expected bilinear, constant"):
        port.load_net(parse_prototxt(text, dialect=dialect), tmp_path / "w.caffemodel")


@pytest.mark.parametrize("dialect", ["bvlc", "srn"])
def test_fillers_of_sharers_are_refused(dialect):
    shared = "param { name: 'w' } "
    text = inputs(d=(2, 3)) + fully("x", "d", "x", 3, shared) + layer("y", "InnerProduct", "x", "y", shared + FILLED)
    (problem,) = problems(text, dialect)
    assert (problem.layer, problem.line, problem.field) == ("y", 4, "filler")


GIVEN = [
    # what a data layer is refused for though its tops' shapes are given
    ("Data", "transform_param { mean_file: 'm' mean_value: 1 }", "transform_param", "both mean_file and mean_value"),
    ("Data", "transform_param { force_color: true force_gray: true }", "transform_param", "both force_color"),
    ("ImageData", "image_data_param { new_height: 4 }", "new_height", "new_height 4, new_width 0"),
    ("HDF5Data", "transform_param { scale: 2 }", "transform_param", "transforms nothing"),
    ("MemoryData", "memory_data_param { channels: 3 height: 4 width: 4 }", "memory_data_param", "batch_size"),
]


@pytest.mark.parametrize("dialect", ["bvlc", "srn"])
@pytest.mark.parametrize(("kind", "fields", "field", "found"), GIVEN)
def test_data_layers_are_checked_without_their_data(dialect, kind, fields, field, found):
    text = layer("y", kind, "", "a b", fields) + layer("s", "Silence", "a b")
    (problem,) = problems(text, dialect, input_shapes={"a": (2, 3, 4, 4), "b": (2,)})
    assert (problem.layer, problem.field) == ("y", field) and found in problem.found


def test_what_the_fork_wants_of_its_own_data_fields():
    shapes = {"a": (2, 3, 4, 4), "b": (2,)}
    for kind, fields, field in (
        ("ImageData", "transform_param { original_image: true }", "crop_size"),
        ("VideoData", "video_data_param { new_width: 4 }", "new_height"),
    ):
        text = layer("y", kind, "", "a b", fields) + layer("s", "Silence", "a b")
        (problem,) = problems(text, "srn", input_shapes=shapes)
        assert (problem.layer, problem.field) == ("y", field)


def test_the_last_top_of_a_slice_may_be_empty_in_bvlc():
    text = inputs(d=(2, 3)) + layer("y", "Slice", "d", "a b", "slice_param { slice_point: 3 }")
    net, data = port.load_net(parse_prototxt(text, dialect="bvlc")), {"d": np.ones((2, 3), np.float32)}
    for found in (port.run_blobs(net, data), run_reference(net.caffe, {}, data)):
        assert (found["a"].shape, found["b"].shape) == ((2, 3), (2, 0))


@pytest.mark.parametrize("value", [0, -1])
def test_the_loss_is_smoothed_over_one_value_at_least(tmp_path, value):
    (tmp_path / "net.prototxt").write_text(inputs(x=(2, 3)) + fully("y", "x", "y", 3, "loss_weight: 1"))
    solver = tmp_path / "solver.prototxt"
    solver.write_text(f'net: "net.prototxt" base_lr: 1 lr_policy: "fixed" average_loss: {value}')
    with pytest.raises(CaffeError, match=f"'average_loss': average_loss {value}; expected 1 or more"):
        port.load_solver(solver)


@pytest.mark.parametrize("number", [3, 4, 5])
def test_solver_types_that_the_fork_lacks(tmp_path, number):
    (tmp_path / "net.prototxt").write_text(inputs(x=(2, 3)) + fully("y", "x", "y", 3, "loss_weight: 1"))
    solver = tmp_path / "solver.prototxt"
    solver.write_text(f'net: "net.prototxt" base_lr: 1 lr_policy: "fixed" solver_type: {number}')
    with pytest.raises(CaffeError, match=r"'solver_type'.*expected .*SGD, N"):
        port.load_solver(solver, dialect="srn")
