"""Fields of a layer in the other dialect: copied by name, adapted where the declarations differ, or refused."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from prototxt_gen.schema import is_repeated
from prototxt_gen.schema.messages import dialect_of, native_names

# Fields of one dialect without influence on any value: speed, engines, memory, and what no layer reads.
_IDLE = {
    "ConvolutionParameter": {"force_nd_im2col"},
    "DataParameter": {"prefetch"},
    "LRNParameter": {"engine"},
    "NetParameter": {"mem_param"},
    "PythonParameter": {"share_in_parallel"},
    "ReductionParameter": {"k"},  # only TOPK reads it, which is refused for itself
}

# Repeated in bvlc, single in srn: the field and its two-dimensional forms.
_WINDOWS = {"kernel_size": "kernel", "stride": "stride", "pad": "pad"}

Refuse = Callable[[str, str, str], None]  # field, what was found, the way out


def transfer(source: Any, target: Any, refuse: Refuse, skip: Container[str] = (), path: str = "") -> None:
    """Copy the set fields of a message to the other dialect's message of the same name.

    Fields are found by name, so numbers may differ. What the target lacks is dropped where it changes no
    value, otherwise given to `refuse`. `skip`: fields to leave alone, written as a.b below the top.
    """
    kind = source.DESCRIPTOR.name
    done = {*_IDLE.get(kind, ()), *_idle_transforms(source)}
    if kind == "ConvolutionParameter":
        done |= _transfer_windows(source, target, refuse, path)
    for field, value in source.ListFields():
        own = target.DESCRIPTOR.fields_by_name.get(field.name)
        if field.name in done or path + field.name in skip:
            continue
        if own is not None and not _lost(source, target, kind, field.name):
            _copy(field, value, own, source, target, refuse, skip, path)
        elif not _is_default(field, value):
            refuse(path + field.name, "the other dialect has no such field, and its value matters", "")
    if kind == "ImageDataParameter" and not target.HasField("batch_size") and source.batch_size:
        target.batch_size = source.batch_size  # bvlc's default; the fork has none


def _copy(
    field: Any, value: Any, own: Any, source: Any, target: Any, refuse: Refuse, skip: Container[str], path: str
) -> None:
    name = field.name
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        items = value if is_repeated(field) else [value]
        for item in items:
            child = getattr(target, name)
            child = child.add() if is_repeated(own) else child
            child.SetInParent()
            transfer(item, child, refuse, skip, f"{path}{name}.")
    elif field.type == FieldDescriptor.TYPE_ENUM:
        word = field.enum_type.values_by_number[value].name
        enum = own.enum_type.full_name.partition(".")[2]
        if word in own.enum_type.values_by_name and not _lost(source, target, enum, word):
            setattr(target, name, own.enum_type.values_by_name[word].number)
        else:
            refuse(path + name, f"the other dialect does not know {word}", "")
    elif is_repeated(own):
        getattr(target, name).extend(value if is_repeated(field) else [value])
    else:
        setattr(target, name, value)


def _lost(source: Any, target: Any, owner: str, name: str) -> bool:
    """Whether a field or enum value of the source's own Caffe is none of the target's own, whatever forks have."""
    own, other = (native_names(dialect_of(message)) for message in (source, target))
    return (owner, name) in own and (owner, name) not in other


def _is_default(field: Any, value: Any) -> bool:
    """Whether a field says what its absence says."""
    return not is_repeated(field) and field.has_default_value and value == field.default_value


def _idle_transforms(source: Any) -> set[str]:
    """The fork's augmentation fields that do nothing without another one; semantics 5.8."""
    if source.DESCRIPTOR.name != "TransformationParameter" or "fix_crop" not in source.DESCRIPTOR.fields_by_name:
        return set()
    idle = set()
    if not source.crop_size or source.original_image:
        idle |= {"fix_crop", "multi_scale"}
    if not source.multi_scale or "multi_scale" in idle:
        idle |= {"scale_ratios", "max_distort"}
    if not source.fix_crop or "fix_crop" in idle:
        idle.add("more_fix_crop")
    if not source.mirror:
        idle.add("is_flow")
    return idle


def _transfer_windows(source: Any, target: Any, refuse: Refuse, path: str) -> set[str]:
    """The parts of a ConvolutionParameter that bvlc repeats for each axis; returns the fields dealt with."""
    if is_repeated(target.DESCRIPTOR.fields_by_name["kernel_size"]):
        return set()  # from single to repeated is an ordinary copy
    for name, short in _WINDOWS.items():
        values = list(getattr(source, name))
        if len(set(values)) == 1 and len(values) <= 2:
            setattr(target, name, values[0])
        elif len(values) == 2:
            for axis, value in zip("hw", values, strict=True):
                setattr(target, f"{short}_{axis}", value)
        elif values:
            refuse(path + name, f"{len(values)} values: the dialect 'srn' has two spatial axes", "")
    if source.HasField("pad_h") != source.HasField("pad_w"):
        target.pad_h, target.pad_w = source.pad_h, source.pad_w  # the fork wants both
    if any(value != 1 for value in source.dilation):
        refuse(path + "dilation", f"dilation {', '.join(map(str, source.dilation))}: 'srn' has none", "")
    return {*_WINDOWS, "dilation"}
