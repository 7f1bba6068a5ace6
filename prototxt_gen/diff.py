"""The structural difference of two nets or two solvers: layers and fields, whatever the text looks like.

Fields are compared by name and value across dialects: a field that one dialect repeats and the other does
not is the same when it holds the same values.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

from .schema.messages import is_repeated
from .schema.printer import to_text

Fields = dict[str, tuple[str, ...]]  # path of a field -> its values as printed
Change = tuple[str, tuple[str, ...], tuple[str, ...]]  # path, values in A, values in B

WIRING = ("bottom", "top")


@dataclass(frozen=True)
class Layer:
    """One layer to compare: name, type, how often the name stood before, and its other fields."""

    name: str
    type: str
    occurrence: int
    fields: Fields

    def __str__(self) -> str:
        return self.name if not self.occurrence else f"{self.name} ({self.occurrence + 1})"


@dataclass
class Difference:
    """What is only in A, only in B, and what changed; false when nothing is."""

    only_a: list[Layer] = field(default_factory=list)
    only_b: list[Layer] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)  # layers of both in another order
    changed: dict[str, list[Change]] = field(default_factory=dict)  # layer -> changes
    fields: list[Change] = field(default_factory=list)  # of the net or solver itself
    same: int = 0  # layers without a change

    def __bool__(self) -> bool:
        return bool(self.only_a or self.only_b or self.moved or self.changed or self.fields)

    def text(self, names: int = 3) -> str:
        """For a terminal; layers that changed alike stand together, at most `names` of them by name."""
        lines = [f"  {_change(change)}" for change in self.fields]
        for title, mark, layers in (("only in A", "-", self.only_a), ("only in B", "+", self.only_b)):
            lines += [f"{title}: {_count(layers)}"] if layers else []
            lines += [f"  {mark} {layer}  {layer.type}" for layer in layers]
        lines += [f"in another order: {_names(self.moved, names)}"] if self.moved else []
        alike: dict[tuple[Change, ...], list[str]] = {}
        for name, changes in self.changed.items():
            alike.setdefault(tuple(changes), []).append(name)
        for group, members in alike.items():
            lines += [f"changed: {_names(members, names)}", *(f"    {_change(change)}" for change in group)]
        if self.same:
            lines.append(f"{self.same} layers are the same")
        return "\n".join(lines if self or self.same else ["nothing differs"])


def compare(a: Any, b: Any, *, by_position: bool = False) -> Difference:
    """The difference of two messages of one kind (NetParameter or SolverParameter).

    Layers are matched by name. `by_position` matches them by order, type and settings instead, for nets
    that name their layers differently: names of layers and blobs then do not count, but which layer a bottom
    comes from does.
    """
    result = Difference(fields=_changes(flatten(a, skip=("layer",)), flatten(b, skip=("layer",))))
    if a.DESCRIPTOR.name == "NetParameter":
        _compare_layers(layers_of(a), layers_of(b), by_position, result)
    return result


def layers_of(net: Any) -> list[Layer]:
    """The layers of a net, in order."""
    seen: Counter[str] = Counter()
    layers = []
    for message in net.layer:
        layers.append(Layer(message.name, message.type, seen[message.name], flatten(message, skip=("name", "blobs"))))
        seen[message.name] += 1
    return layers


def flatten(message: Any, path: str = "", skip: Sequence[str] = ()) -> Fields:
    """Every set field under its path; the entries of a repeated block are numbered."""
    fields: Fields = {}
    for each, value in message.ListFields():
        if each.name in skip:
            continue
        items = list(value) if is_repeated(each) else [value]
        if each.message_type is None:
            fields[path + each.name] = tuple(_printed(message, each, item) for item in items)
            continue
        for index, item in enumerate(items):
            place = f"{path}{each.name}[{index}]" if is_repeated(each) and len(items) > 1 else path + each.name
            fields |= flatten(item, f"{place}.") or {place: ("{ }",)}
    return fields


def _printed(message: Any, each: Any, item: Any) -> str:
    """A value as it stands in a prototxt."""
    one = type(message)()
    if is_repeated(each):
        getattr(one, each.name).append(item)
    else:
        setattr(one, each.name, item)
    return to_text(one).strip().partition(": ")[2]


def _compare_layers(a: list[Layer], b: list[Layer], by_position: bool, result: Difference) -> None:
    pairs = list(_pairs_by_position(a, b) if by_position else _pairs_by_name(a, b))
    matched_a, matched_b = {i for i, _ in pairs}, {j for _, j in pairs}
    result.only_a = [layer for i, layer in enumerate(a) if i not in matched_a]
    result.only_b = [layer for j, layer in enumerate(b) if j not in matched_b]
    result.moved = _moved([(str(a[i]), j) for i, j in pairs])
    blobs: dict[str, str] = {}  # by position: a blob of A -> the one that the matched layer makes in B
    for i, j in pairs:
        before = {"type": (a[i].type,), **a[i].fields}
        after = {"type": (b[j].type,), **b[j].fields}
        if by_position:
            tops = zip(before.pop("top", ()), after.pop("top", ()), strict=False)
            if "bottom" in before:
                before["bottom"] = tuple(blobs.get(blob, blob) for blob in before["bottom"])
            blobs |= dict(tops)
        changes = _changes(before, after)
        if changes:
            result.changed[f"{a[i]} = {b[j]}" if by_position and a[i].name != b[j].name else str(a[i])] = changes
        else:
            result.same += 1


def _pairs_by_name(a: list[Layer], b: list[Layer]) -> Iterator[tuple[int, int]]:
    places = {(layer.name, layer.occurrence): j for j, layer in enumerate(b)}
    for i, layer in enumerate(a):
        if (layer.name, layer.occurrence) in places:
            yield i, places[layer.name, layer.occurrence]


def _pairs_by_position(a: list[Layer], b: list[Layer]) -> Iterator[tuple[int, int]]:
    def key(layer: Layer) -> tuple:
        return layer.type, *sorted((path, value) for path, value in layer.fields.items() if path not in WIRING)

    matcher = SequenceMatcher(None, [key(layer) for layer in a], [key(layer) for layer in b], autojunk=False)
    for block in matcher.get_matching_blocks():
        for offset in range(block.size):
            yield block.a + offset, block.b + offset


def _moved(pairs: list[tuple[str, int]]) -> list[str]:
    """The names of a list of (name, place in B) that break its order: those outside the longest ordered run."""
    ends: list[int] = []  # by length: the index at which the best run of that length ends
    before: list[int] = []
    for index, (_, place) in enumerate(pairs):
        length = bisect_left(ends, place, key=lambda each: pairs[each][1])
        before.append(ends[length - 1] if length else -1)
        ends[length : length + 1] = [index]
    kept, index = set(), ends[-1] if ends else -1
    while index >= 0:
        kept.add(index)
        index = before[index]
    return [name for index, (name, _) in enumerate(pairs) if index not in kept]


def _changes(a: Mapping[str, tuple[str, ...]], b: Mapping[str, tuple[str, ...]]) -> list[Change]:
    return [(path, a.get(path, ()), b.get(path, ())) for path in dict.fromkeys([*a, *b]) if a.get(path) != b.get(path)]


def _change(change: Change) -> str:
    path, before, after = change
    return f"{path}: {', '.join(before) or 'not set'} -> {', '.join(after) or 'not set'}"


def _count(items: Sequence[Any]) -> str:
    return f"{len(items)} layer{'s' if len(items) > 1 else ''}"


def _names(names: list[str], most: int) -> str:
    if len(names) <= most:
        return ", ".join(names)
    return f"{len(names)} layers: {', '.join(names[:most])}, ..."
