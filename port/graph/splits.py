"""The Split layers that Caffe puts behind every blob with several consumers (insert_splits.cpp)."""

from __future__ import annotations

from collections import Counter
from typing import Any


def split_name(blob: str, layer: str, index: int) -> str:
    """Name of an implicit Split layer."""
    return f"{blob}_{layer}_{index}_split"


def insert_splits(net: Any) -> Any:
    """A copy of a NetParameter with Split layers and renamed bottoms; semantics 2.4."""
    producer: dict[str, tuple[int, int]] = {blob: (-1, i) for i, blob in enumerate(net.input)}
    source: dict[tuple[int, int], tuple[int, int]] = {}  # (layer, bottom) -> (layer, top)
    consumers: Counter[tuple[int, int]] = Counter()
    weights: dict[tuple[int, int], float] = {}
    for i, layer in enumerate(net.layer):
        for j, blob in enumerate(layer.bottom):
            source[i, j] = producer[blob]
            consumers[producer[blob]] += 1
        for j, blob in enumerate(layer.top):
            producer[blob] = (i, j)
            # An explicit loss weight is one more consumer of the top.
            if j < len(layer.loss_weight) and layer.loss_weight[j]:
                weights[i, j] = layer.loss_weight[j]
                consumers[i, j] += 1
    return _rebuilt(net, source, consumers, weights)


def _rebuilt(net: Any, source: dict, consumers: Counter, weights: dict) -> Any:
    result = type(net)()
    result.CopyFrom(net)
    del result.layer[:]
    used: Counter[tuple[int, int]] = Counter()

    def add_split(at: tuple[int, int], blob: str, layer: str) -> None:
        if consumers[at] > 1:
            split = result.layer.add(name=split_name(blob, layer, at[1]), type="Split", bottom=[blob])
            split.top.extend(f"{split.name}_{k}" for k in range(consumers[at]))
            if at in weights:
                split.loss_weight.extend([weights[at], *[0.0] * (consumers[at] - 1)])
                used[at] = 1

    for i, blob in enumerate(net.input):
        add_split((-1, i), blob, "input")
    for i, layer in enumerate(net.layer):
        copy = result.layer.add()
        copy.CopyFrom(layer)
        for j, blob in enumerate(layer.bottom):
            at = source[i, j]
            if consumers[at] > 1:
                owner = "input" if at[0] < 0 else net.layer[at[0]].name
                copy.bottom[j] = f"{split_name(blob, owner, at[1])}_{used[at]}"
                used[at] += 1
        for j, blob in enumerate(layer.top):
            if (i, j) in weights and consumers[i, j] > 1:
                copy.loss_weight[j] = 0.0
            add_split((i, j), blob, layer.name)
    return result
