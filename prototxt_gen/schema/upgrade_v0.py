"""The oldest net format, V0 (`layers { layer { } }`), as V1: the first upgrade that Caffe does on reading."""

from __future__ import annotations

from typing import Any

from ..base.errors import Problems, closest

V0_TYPES = {
    "accuracy": "ACCURACY",
    "bnll": "BNLL",
    "concat": "CONCAT",
    "conv": "CONVOLUTION",
    "data": "DATA",
    "dropout": "DROPOUT",
    "euclidean_loss": "EUCLIDEAN_LOSS",
    "flatten": "FLATTEN",
    "hdf5_data": "HDF5_DATA",
    "hdf5_output": "HDF5_OUTPUT",
    "im2col": "IM2COL",
    "images": "IMAGE_DATA",
    "infogain_loss": "INFOGAIN_LOSS",
    "innerproduct": "INNER_PRODUCT",
    "lrn": "LRN",
    "multinomial_logistic_loss": "MULTINOMIAL_LOGISTIC_LOSS",
    "pool": "POOLING",
    "relu": "RELU",
    "sigmoid": "SIGMOID",
    "softmax": "SOFTMAX",
    "softmax_loss": "SOFTMAX_LOSS",
    "split": "SPLIT",
    "tanh": "TANH",
    "window_data": "WINDOW_DATA",
}
PADDING = "padding"  # merged into the layer behind it

_ANY = "any type"
_INNER = {"conv": "convolution_param", "innerproduct": "inner_product_param"}
_WINDOW = {"conv": "convolution_param", "pool": "pooling_param"}
_IMAGES = {"images": "image_data_param"}
_DATA = {"data": "data_param", **_IMAGES}
_SOURCES = {**_DATA, "hdf5_data": "hdf5_data_param", "window_data": "window_data_param"}
_LRN = {"lrn": "lrn_param"}
_DET = {"window_data": "window_data_param"}
_TRANSFORM = {_ANY: "transform_param"}

# V0 field -> its name in V1, and by V0 layer type the block it goes to.
_FIELDS: dict[str, tuple[str, dict[str, str]]] = {
    "name": ("name", {_ANY: ""}),
    "blobs": ("blobs", {_ANY: ""}),
    "blobs_lr": ("blobs_lr", {_ANY: ""}),
    "weight_decay": ("weight_decay", {_ANY: ""}),
    "num_output": ("num_output", _INNER),
    "biasterm": ("bias_term", _INNER),
    "weight_filler": ("weight_filler", _INNER),
    "bias_filler": ("bias_filler", _INNER),
    "pad": ("pad", _WINDOW),
    "kernelsize": ("kernel_size", _WINDOW),
    "stride": ("stride", _WINDOW),
    "group": ("group", {"conv": "convolution_param"}),
    "pool": ("pool", {"pool": "pooling_param"}),
    "dropout_ratio": ("dropout_ratio", {"dropout": "dropout_param"}),
    "local_size": ("local_size", _LRN),
    "alpha": ("alpha", _LRN),
    "beta": ("beta", _LRN),
    "k": ("k", _LRN),
    "source": ("source", {**_SOURCES, "infogain_loss": "infogain_loss_param"}),
    "batchsize": ("batch_size", _SOURCES),
    "scale": ("scale", _TRANSFORM),
    "meanfile": ("mean_file", _TRANSFORM),
    "cropsize": ("crop_size", _TRANSFORM),
    "mirror": ("mirror", _TRANSFORM),
    "rand_skip": ("rand_skip", _DATA),
    "shuffle_images": ("shuffle", _IMAGES),
    "new_height": ("new_height", _IMAGES),
    "new_width": ("new_width", _IMAGES),
    "concat_dim": ("concat_dim", {"concat": "concat_param"}),
    "det_fg_threshold": ("fg_threshold", _DET),
    "det_bg_threshold": ("bg_threshold", _DET),
    "det_fg_fraction": ("fg_fraction", _DET),
    "det_context_pad": ("context_pad", _DET),
    "det_crop_mode": ("crop_mode", _DET),
    "hdf5_output_param": ("hdf5_output_param", {"hdf5_output": ""}),
}
_SURVIVING = ("name", "input", "input_dim", "force_backward")


def is_v0(net: Any) -> bool:
    """Whether a net has a layer in the V0 format."""
    return any(entry.HasField("layer") for entry in net.layers)


def upgrade_v0(net: Any, lines: list[int], problems: Problems, notes: list[str]) -> tuple[Any, list[int]]:
    """A V0 net as V1, with the line of each layer; what Caffe aborts on goes to `problems`. Changes `net`."""
    merged, lines = _merge_padding(net, lines, problems, notes)
    upgraded = type(net)()
    for field, _ in net.ListFields():
        if field.name in _SURVIVING:
            copy_field(net, field.name, upgraded)
        elif field.name != "layers":
            notes.append(f"the net's field '{field.name}' is dropped: it does not exist in the V0 format")
    for entry, line in zip(merged, lines, strict=True):
        _upgrade_layer(entry, upgraded.layers.add(), line, problems, notes)
    notes.insert(0, f"upgraded from the V0 format: {len(net.layers)} layers")
    return upgraded, lines


def _merge_padding(net: Any, lines: list[int], problems: Problems, notes: list[str]) -> tuple[list[Any], list[int]]:
    """The layers without those of type padding, whose `pad` goes to the layers they feed."""
    kept: list[Any] = []
    kept_lines: list[int] = []
    makers: dict[str, Any] = dict.fromkeys(net.input)  # blob -> the layer that wrote it last
    for entry, line in zip(net.layers, lines, strict=True):
        place = {"layer": entry.layer.name, "line": line}
        for i, blob in enumerate(entry.bottom):
            maker = makers.get(blob)
            if blob not in makers:
                problems.add(f"no layer before it makes its bottom '{blob}'", field="bottom", **place)
            if maker is None or maker.layer.type != PADDING:
                continue
            if entry.layer.type not in _WINDOW or len(entry.bottom) != 1 or len(maker.bottom) != 1:
                problems.add(
                    f"the padding layer '{maker.layer.name}' feeds a layer of type '{entry.layer.type}'",
                    expected="a conv or pool layer with one bottom behind a padding layer with one bottom",
                    **place,
                )
                continue
            entry.layer.pad = maker.layer.pad
            entry.bottom[i] = maker.bottom[0]
            notes.append(f"the padding layer '{maker.layer.name}' is merged into '{entry.layer.name}'")
        makers.update(dict.fromkeys(entry.top, entry))
        if entry.layer.type != PADDING:
            kept.append(entry)
            kept_lines.append(line)
    return kept, kept_lines


def _upgrade_layer(entry: Any, target: Any, line: int, problems: Problems, notes: list[str]) -> None:
    target.bottom.extend(entry.bottom)
    target.top.extend(entry.top)
    old = entry.layer
    place = {"layer": old.name or entry.name, "line": line}
    strays = [field.name for field, _ in entry.ListFields() if field.name not in ("bottom", "top", "layer")]
    if strays or not entry.HasField("layer"):
        found = f"V1 fields in a net of the V0 format: {', '.join(strays)}" if strays else "an empty entry"
        problems.add(found, expected="only 'bottom', 'top' and a block 'layer { }' in each 'layers { }'", **place)
    if old.type in V0_TYPES:
        target.type = target.DESCRIPTOR.enum_types_by_name["LayerType"].values_by_name[V0_TYPES[old.type]].number
    elif old.HasField("type"):
        fix = closest(old.type, [*V0_TYPES, PADDING])
        problems.add(f"there is no V0 layer type '{old.type}'", field="type", fix=fix, **place)
    for field, _ in old.ListFields():
        if field.name != "type":
            _move(old, field.name, target, place, problems, notes)


def _move(old: Any, name: str, target: Any, place: dict, problems: Problems, notes: list[str]) -> None:
    """Copy one V0 field to where it belongs by the type of its layer."""
    new_name, blocks = _FIELDS.get(name, ("", {}))
    block = blocks.get(old.type, blocks.get(_ANY))
    if block is None:
        notes.append(f"layer '{old.name}': '{name}' means nothing in a layer of type '{old.type}' and is dropped")
        return
    try:
        copy_field(old, name, getattr(target, block) if block else target, new_name)
    except ValueError:
        problems.add(f"{getattr(old, name)} is out of range", field=name, **place)


def copy_field(source: Any, name: str, target: Any, new_name: str = "") -> None:
    """Copy a field to one of another message, whose name may differ; to a repeated one it is added."""
    new_name = new_name or name
    value = getattr(source, name)
    there = getattr(target, new_name)
    if hasattr(there, "extend"):
        there.extend(value if hasattr(value, "extend") else [value])
    elif hasattr(there, "CopyFrom"):
        there.CopyFrom(value)
    else:
        setattr(target, new_name, value)
