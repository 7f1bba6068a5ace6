"""What Caffe does to old nets and solvers on reading them, for messages from text and from binary files.

V0 -> V1, deprecated data fields -> transform_param, V1 -> V2 (`layers` -> `layer`); in the dialect bvlc
also input fields -> an Input layer, and lr_mult 0 for the three statistics of old BatchNorm layers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..base.errors import NetError, Problems
from .habits import Habits, habits
from .text import Parsed
from .upgrade_v0 import copy_field, is_v0, upgrade_v0

# The names of V1's layer types in today's format.
V1_TYPES = {
    "NONE": "",
    "ABSVAL": "AbsVal",
    "ACCURACY": "Accuracy",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "CONCAT": "Concat",
    "CONTRASTIVE_LOSS": "ContrastiveLoss",
    "CONVOLUTION": "Convolution",
    "DATA": "Data",
    "DECONVOLUTION": "Deconvolution",
    "DROPOUT": "Dropout",
    "DUMMY_DATA": "DummyData",
    "ELTWISE": "Eltwise",
    "EUCLIDEAN_LOSS": "EuclideanLoss",
    "EXP": "Exp",
    "FLATTEN": "Flatten",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "HINGE_LOSS": "HingeLoss",
    "IM2COL": "Im2col",
    "IMAGE_DATA": "ImageData",
    "INFOGAIN_LOSS": "InfogainLoss",
    "INNER_PRODUCT": "InnerProduct",
    "LRN": "LRN",
    "MEMORY_DATA": "MemoryData",
    "MULTINOMIAL_LOGISTIC_LOSS": "MultinomialLogisticLoss",
    "MVN": "MVN",
    "POOLING": "Pooling",
    "POWER": "Power",
    "RELU": "ReLU",
    "SIGMOID": "Sigmoid",
    "SIGMOID_CROSS_ENTROPY_LOSS": "SigmoidCrossEntropyLoss",
    "SILENCE": "Silence",
    "SLICE": "Slice",
    "SOFTMAX": "Softmax",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "SPLIT": "Split",
    "TANH": "TanH",
    "THRESHOLD": "Threshold",
    "WINDOW_DATA": "WindowData",
    # of forks
    "BATCH_NORM": "BatchNorm",
    "BIAS_CHANNEL": "BiasChannel",
    "BN": "BN",
    "CONADD": "Conadd",
    "CONVOLUTION3D": "Convolution3D",
    "CROP": "Crop",
    "DECONVOLUTION3D": "Deconvolution3D",
    "DEFORMABLECONVOLUTION": "DeformableConvolution",
    "DENSE_CRF": "DenseCRF",
    "DOMINANT_CHANNEL": "DominantChannel",
    "DOWN_SAMPLING": "DownSampling",
    "ELTWISE_AFFINE": "EltwiseAffine",
    "ELTWISE_PRODUCT": "EltwiseProduct",
    "IMAGE_SEG_DATA": "ImageSegData",
    "INSANITY": "Insanity",
    "INTERP": "Interp",
    "LOCAL": "Local",
    "MAT_READ": "MatRead",
    "MAT_WRITE": "MatWrite",
    "NORMALIZE": "Normalize",
    "PADDING": "Padding",
    "POOLING3D": "Pooling3D",
    "RELU6": "ReLU6",
    "ROIPOOLING": "ROIPooling",
    "SEG_ACCURACY": "SegAccuracy",
    "TRIPLET_LOSS": "TripletLoss",
    "VIDEO_DATA": "VideoData",
    "VIDEO_SEGMENTATION_DATA": "VideoSegmentationData",
    "VIDEO_WITH_VOXEL_TRUTH_DATA": "VideoWithVoxelTruthData",
    "VOLUME_DATA": "VolumeData",
    "VOXEL_CUSTOM_LOSS": "VoxelCustomLoss",
    "VOXEL_SOFTMAX": "VoxelSoftmax",
    "VOXEL_SOFTMAX_LOSS": "VoxelSoftmaxLoss",
}

SOLVER_TYPES = {
    "SGD": "SGD",
    "NESTEROV": "Nesterov",
    "ADAGRAD": "AdaGrad",
    "RMSPROP": "RMSProp",
    "ADADELTA": "AdaDelta",
    "ADAM": "Adam",
    "SAG": "SAG",  # NVIDIA's
}

# Layer type -> the block with the deprecated twins of transform_param's fields.
_DATA_BLOCKS = {
    "DATA": "data_param",
    "IMAGE_DATA": "image_data_param",
    "WINDOW_DATA": "window_data_param",
}
_MOVED = ("scale", "mean_file", "crop_size", "mirror")

# V1 fields that are not carried over under their name: repeated V1 field -> field of `param`.
_PARAM_FIELDS = {
    "param": "name",
    "blob_share_mode": "share_mode",
    "blobs_lr": "lr_mult",
    "weight_decay": "decay_mult",
}


def upgrade_net(message: Any, dialect: str, file: str = "", lines: Sequence[int] = ()) -> tuple[Any, list[str]]:
    """A NetParameter in today's format as `dialect` reads it, and notes on what was changed; a copy always.

    `file` and `lines` (of the layer entries, as in `Parsed`) only serve the messages. Raises NetError
    where Caffe aborts: unknown V0 types, `layer` beside `layers` (bvlc), inputs without shapes.
    """
    upgraded, _, notes = _upgrade(message, dialect, file, lines)
    return upgraded, notes


def upgrade_parsed(parsed: Parsed) -> tuple[Parsed, list[str]]:
    """`upgrade_net` of a parsed file: its `lines` follow the upgraded layers (0 for one that was added)."""
    message, lines, notes = _upgrade(parsed.message, parsed.dialect, parsed.file, parsed.lines)
    return replace(parsed, message=message, lines=lines), notes


def upgrade_solver(message: Any, dialect: str, path: str | Path = "") -> tuple[Any, list[str]]:
    """A SolverParameter as `dialect` reads it from the file `path`, and notes on what was changed.

    bvlc: the enum `solver_type` becomes the string `type`, and a snapshot_prefix that is missing or a folder
    is completed from the path. srn changes nothing. Raises NetError if both types are given.
    """
    solver, own = _copy(message), habits(dialect)
    notes: list[str] = []
    if own.solver_type_is_a_word:
        _name_solver_type(solver, path, notes)
    if own.completes_snapshot_prefix and path:
        _complete_prefix(solver, path, notes)
    return solver, notes


def _name_solver_type(solver: Any, path: str | Path, notes: list[str]) -> None:
    with Problems(NetError, path) as problems:
        if solver.HasField("solver_type") and solver.HasField("type"):
            fix = "remove solver_type, the older one"
            problems.add("both 'type' and 'solver_type' are given", field="solver_type", fix=fix)
        elif solver.HasField("solver_type"):
            solver.type = SOLVER_TYPES[_enum_name(solver, "solver_type")]
            solver.ClearField("solver_type")
            notes.append(f"solver_type became type: '{solver.type}'")


def _complete_prefix(solver: Any, path: str | Path, notes: list[str]) -> None:
    if not solver.HasField("snapshot_prefix"):
        solver.snapshot_prefix = os.path.splitext(path)[0]
        notes.append(f"snapshot_prefix was missing and is set to '{solver.snapshot_prefix}'")
    elif os.path.isdir(solver.snapshot_prefix):
        solver.snapshot_prefix = os.path.join(solver.snapshot_prefix, Path(path).stem)
        notes.append(f"snapshot_prefix was a folder and is set to '{solver.snapshot_prefix}'")


def _upgrade(message: Any, dialect: str, file: str, given_lines: Sequence[int]) -> tuple[Any, list[int], list[str]]:
    net, own = _copy(message), habits(dialect)
    notes: list[str] = []
    count = len(net.layers) or len(net.layer)
    lines = list(given_lines) if len(given_lines) == count else [0] * count
    with Problems(NetError, file) as problems:
        if net.layers:
            _drop_mixed_layers(net, own, problems, notes)
            if is_v0(net):
                net, lines = upgrade_v0(net, lines, problems, notes)
            else:
                notes.append(f"upgraded from the V1 format ('layers'): {count} layers")
            _upgrade_v1(net, notes)
        else:
            _note_ignored_fields(net, notes)
        if own.inputs_become_layers and net.input:
            lines = _upgrade_inputs(net, lines, problems, notes)
        if own.stills_batch_norm:
            _upgrade_batch_norm(net, notes)
    return net, lines, notes


def _copy(message: Any) -> Any:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _enum_name(message: Any, field: str) -> str:
    values = message.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number
    return values[getattr(message, field)].name


def _drop_mixed_layers(net: Any, own: Habits, problems: Problems, notes: list[str]) -> None:
    """`layer` entries beside `layers`: the file is refused, or only `layers` are kept (semantics 2.6)."""
    if not net.layer:
        return
    names = ", ".join(f"'{layer.name}'" for layer in net.layer)
    if own.refuses_mixed_formats:
        problems.add(
            f"entries of both formats: {len(net.layers)} 'layers', {len(net.layer)} 'layer' ({names})",
            expected="only 'layer { }' with a type in quotes, or only 'layers { }'",
            layer=net.layer[0].name,
        )
    notes.append(f"beside 'layers' the entries 'layer' are discarded, as this Caffe does: {names}")
    del net.layer[:]


def _upgrade_v1(net: Any, notes: list[str]) -> None:
    for old in net.layers:
        type_name = _enum_name(old, "type") if old.HasField("type") else "NONE"
        _move_data_fields(old, type_name, notes)
        new = net.layer.add()
        if old.HasField("type"):
            new.type = V1_TYPES[type_name]
        for field, value in old.ListFields():
            if field.name in _PARAM_FIELDS:
                _set_param_field(new, _PARAM_FIELDS[field.name], value)
            elif field.name != "type":
                copy_field(old, field.name, new)
    del net.layers[:]


def _set_param_field(layer: Any, name: str, values: Sequence[Any]) -> None:
    while len(layer.param) < len(values):
        layer.param.add()
    for param, value in zip(layer.param, values, strict=False):
        setattr(param, name, value)


def _move_data_fields(layer: Any, type_name: str, notes: list[str]) -> None:
    """In a V1 data layer: scale, mean_file, crop_size and mirror to transform_param."""
    block_name = _DATA_BLOCKS.get(type_name, "")
    if not block_name or not layer.HasField(block_name):
        return
    block = getattr(layer, block_name)
    moved = [name for name in _MOVED if block.HasField(name)]
    for name in moved:
        setattr(layer.transform_param, name, getattr(block, name))
        block.ClearField(name)
    if moved:
        notes.append(f"layer '{layer.name}': {', '.join(moved)} moved from {block_name} to transform_param")


def _note_ignored_fields(net: Any, notes: list[str]) -> None:
    for layer in net.layer:
        for block in ("data_param", "image_data_param"):
            names = [name for name in _MOVED if getattr(layer, block).HasField(name)]
            if names:
                notes.append(
                    f"layer '{layer.name}': ignored in {block}, as Caffe does in the format 'layer': "
                    f"{', '.join(names)}; they belong in transform_param"
                )


def _input_shapes(net: Any, problems: Problems, notes: list[str]) -> list[list[int]]:
    """The shape of each input from input_shape or else input_dim; none if the net gives neither."""
    count, dims = len(net.input), list(net.input_dim)
    shapes = [list(shape.dim) for shape in net.input_shape]
    if dims and not shapes:
        shapes = [dims[i : i + 4] for i in range(0, len(dims) // 4 * 4, 4)]
    found = f"{count} inputs, {len(net.input_shape)} input_shape, {len(dims)} input_dim"
    expected = "one input_shape, or four input_dim, for each input"
    if len(shapes) < count and (net.input_shape or dims):
        problems.add(found, expected=expected, field="input")
    elif len(shapes) > count or len(dims) % 4 or (net.input_shape and dims):
        notes.append(f"{found}: what is too much is ignored")
    return shapes[:count]


def _upgrade_inputs(net: Any, lines: list[int], problems: Problems, notes: list[str]) -> list[int]:
    """The net's input fields as a first layer `input`; inputs without any shape are dropped.

    Returns the lines of the new layers.
    """
    names = ", ".join(f"'{name}'" for name in net.input)
    if shapes := _input_shapes(net, problems, notes):
        first = type(net)().layer.add(name="input", type="Input", top=net.input)
        for shape in shapes:
            first.input_param.shape.add(dim=shape)
        layers = [first, *map(_copy, net.layer)]
        del net.layer[:]
        net.layer.extend(layers)
        lines = [0, *lines]
        notes.append(f"the net's input fields became the Input layer 'input' with the tops {names}")
    else:
        notes.append(f"the inputs {names} have no shape and are dropped")
    for name in ("input", "input_shape", "input_dim"):
        net.ClearField(name)
    return lines


def _upgrade_batch_norm(net: Any, notes: list[str]) -> None:
    """BatchNorm layers with three `param` entries, as older Caffe wanted: statistics are not learned."""
    for layer in net.layer:
        if layer.type == "BatchNorm" and len(layer.param) == 3:
            if any(p.lr_mult or p.decay_mult for p in layer.param):
                notes.append(f"layer '{layer.name}': lr_mult and decay_mult of its three statistics are set to 0")
            for param in layer.param:
                param.lr_mult = param.decay_mult = 0
