"""Fields that only forks have: what changes no result is kept, all else is refused by name."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from prototxt_gen.schema.community import field_defaults, field_forks
from prototxt_gen.schema.messages import is_repeated, native_names

# What tunes speed, memory, or arithmetic in other number formats; float32 results stay as they are.
_TUNING = """
    LayerParameter: forward_type backward_type forward_math backward_math cudnn_math_override debug engine
      quantization_param multinode mn_grad_compress_param reshape_every_iter strict_dim
    NetParameter: default_forward_type default_backward_type default_forward_math default_backward_math
      default_conv_algos_override default_cudnn_math_override global_grad_scale global_grad_scale_adaptive
      reduce_buckets eltwise_mem_sharing engine compile_net_state multinode mem_param bn_stats_batch_size
    ConvolutionParameter: conv_algorithm conv_algos_override cudnn_math_override cudnn_convolution_algo_seeker
      cudnn_flavor bn_out_relu_fused
    BatchNormParameter: engine
    DropoutParameter: engine random_seed
    InnerProductParameter: engine
    EltwiseParameter: engine
    ConcatParameter: engine
    SplitParameter: engine
    DataParameter: cache threads parser_threads
    ImageDataParameter: threads cache precache
    SolverParameter: eval_type ap_version show_per_class_result engine store_blobs_in_old_format solver_data_type
"""
# What a layer shows on a screen or writes to a file beside its tops.
_BESIDE = "DetectionOutputParameter: save_output_param save_file visualize visualize_threshold"


def _table(text: str) -> frozenset[tuple[str, str]]:
    pairs, message = set(), ""
    for word in text.split():
        if word.endswith(":"):
            message = word[:-1]
        else:
            pairs.add((message, word))
    return frozenset(pairs)


KEPT = _table(_TUNING) | _table(_BESIDE)


@dataclass(frozen=True)
class Foreign:
    """A field that a net sets and only forks have; `kept`: it changes no result in float32.

    `idle`: it is set to what it is where it is not set.
    """

    message: str
    name: str
    forks: tuple[str, ...]
    idle: bool = False

    @property
    def kept(self) -> bool:
        return self.idle or (self.message, self.name) in KEPT

    @classmethod
    def named(cls, message: str, name: str, idle: bool = False) -> Foreign:
        """The field of a message, with the forks that have it."""
        return cls(message, name, field_forks().get((message, name), ()), idle)


def _of(message: Any, name: str) -> Foreign:
    field, owner = message.DESCRIPTOR.fields_by_name[name], message.DESCRIPTOR.name
    plain = field.has_default_value and not is_repeated(field) and len(field_defaults().get((owner, name), ())) == 1
    return Foreign.named(owner, name, plain and getattr(message, name) == field.default_value)


def foreign_fields(message: Any, param: Iterable[str], names: Collection[str], dialect: str) -> dict[str, Foreign]:
    """Those of `names` in a LayerParameter's `param` messages that are no fields of the dialect's own Caffe."""
    native, found = native_names(dialect), {}
    for block in (getattr(message, p) for p in param if p in message.DESCRIPTOR.fields_by_name and message.HasField(p)):
        for field, _ in block.ListFields():
            if field.name in names and (block.DESCRIPTOR.name, field.name) not in native:
                found[field.name] = _of(block, field.name)
    return found


def refused_fields(message: Any, dialect: str) -> Iterator[Foreign]:
    """The fields of forks anywhere in a message that change what it means, for readers that know none of them."""
    native, name = native_names(dialect), message.DESCRIPTOR.name
    for field, value in message.ListFields():
        entry = _of(message, field.name)
        if (name, field.name) not in native and not entry.kept:
            yield entry
        elif field.message_type is not None:
            for each in value if is_repeated(field) else [value]:
                yield from refused_fields(each, dialect)


def settings(message: Any, dialect: str) -> list[Foreign]:
    """The fields of forks that stand in a layer or net itself, the messages of layer types left out."""
    native, name = native_names(dialect), message.DESCRIPTOR.name
    return [
        _of(message, field.name)
        for field, _ in message.ListFields()
        if (name, field.name) not in native and ((name, field.name) in KEPT or not field.name.endswith("_param"))
    ]
