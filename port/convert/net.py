"""The conversion of a net file, layer by layer, for all phases at once."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from prototxt_gen.base.errors import NetError, Problems, UsageError
from prototxt_gen.schema import DIALECTS, LAYER_TYPES, Parsed, message_class, read_prototxt, to_text, upgrade_parsed
from prototxt_gen.schema.habits import habits

from ..graph.build import build_graph
from ..graph.graph import Graph
from ..graph.state import PHASES, NetState
from ..layers import REGISTRY, show
from . import normalisation as norm
from .fields import transfer
from .rules import BY_RULE, adapt, remarks

Recipe = Callable[[Mapping[str, norm.Blobs]], list[np.ndarray]]


@dataclass
class Conversion:
    """A converted net: `source` and `parsed` (old and new), `notes`, and how its blobs come from the old ones."""

    source: Parsed
    parsed: Parsed
    notes: list[str] = field(default_factory=list)
    recipes: dict[str, Recipe] = field(default_factory=dict)  # layer -> its blobs, where they are not just copied
    replaced: set[str] = field(default_factory=set)  # layers of the source that are gone

    def blobs(self, held: Mapping[str, norm.Blobs]) -> dict[str, list[np.ndarray]]:
        """The new net's blobs by layer from the old net's; computed ones are float64."""
        result = {name: list(blobs) for name, blobs in held.items() if name not in self.replaced}
        for name, recipe in self.recipes.items():
            try:
                result[name] = recipe(held)
            except KeyError:  # a layer of another phase
                continue
        return result

    def text(self) -> str:
        """The new net as a prototxt, with the notes as comments."""
        lines = [f"Converted from the dialect {self.source.dialect} to {self.parsed.dialect}."]
        for note in self.notes:
            lines += textwrap.wrap(note, 100, initial_indent="- ", subsequent_indent="  ")
        return to_text(self.parsed.message, header="\n".join(lines))


def convert_net(
    net: str | Path | Parsed,
    to: str,
    *,
    dialect: str | None = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Conversion:
    """A net of the other dialect that computes the same in phase TEST; old formats are upgraded first.

    `dialect` is the net's own; None detects it. `input_shapes` (of data layers' tops, by blob) serves the
    check that all shapes stay. Raises NetError with every layer and field that `to` cannot
    express, ParseError for a bad file, UsageError when there is nothing to convert.
    """
    if to not in DIALECTS:
        raise UsageError(f"there is no dialect '{to}'; choose one of: {', '.join(DIALECTS)}")
    parsed = net if isinstance(net, Parsed) else read_prototxt(Path(net), dialect=dialect)
    if parsed.dialect == to:
        fix = f"if it is not, declare its dialect: it was taken for {to} because {parsed.reason}"
        raise UsageError(f"{parsed.file}: the net is in the dialect {to} already. {fix[0].upper()}{fix[1:]}")
    source, notes = upgrade_parsed(parsed)
    with Problems(NetError, parsed.file) as problems:
        converter = _Converter(source, to, problems)
        converter.run()
    message = converter.message
    target = Parsed(message, to, f"converted from {parsed.dialect}", parsed.file, converter.lines)
    conversion = Conversion(source, target, [*notes, *converter.notes()], converter.recipes, converter.replaced)
    for phase in PHASES:
        conversion.notes += _check_shapes(conversion, phase, input_shapes or {})
    return conversion


class _Converter:
    def __init__(self, source: Parsed, to: str, problems: Problems):
        self.net, self.given_lines, self.to, self.problems = source.message, source.lines, to, problems
        self.message = message_class("NetParameter", to)()
        self.lines: list[int] = []
        self.recipes: dict[str, Recipe] = {}
        self.replaced: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.remarks: dict[str, None] = {}
        self.names = {layer.name for layer in self.net.layer}
        norms = [layer.name for layer in self.net.layer if layer.type == "BN"]
        self.scales = norm.scale_names(norms, self.names) if "BN" not in LAYER_TYPES[to] else {}
        self.pairs = norm.scale_pairs(self.net.layer) if "BatchNorm" not in LAYER_TYPES[to] else {}

    def run(self) -> None:
        def refuse(field: str, found: str, fix: str) -> None:
            self.problems.add(found, field=field, fix=fix)

        transfer(self.net, self.message, refuse, skip={"layer", "input", "input_dim", "input_shape"})
        del self.message.layer[:]
        if self.net.input:
            self._input_layer()
        merged = set(self.pairs.values())
        for i, layer in enumerate(self.net.layer):
            if i not in merged:
                self._layer(i, layer)

    def _layer(self, i: int, layer: Any) -> None:
        lacking = layer.type not in LAYER_TYPES[self.to]
        if layer.type == "BN" and lacking:
            made = self._split_bn(i, layer)
        elif layer.type == "BatchNorm" and lacking:
            made = [self._merge_bn(i, layer)]
        elif layer.type == "Input" and lacking:
            made = self._net_inputs(i, layer)
        elif lacking and not self._is_users(layer.type):
            found = f"the layer type '{layer.type}' does not exist in the dialect '{self.to}'"
            self._refuse(i, "type", found, "")
            made = []
        else:
            made = [self._plain(i, layer)]
        self.message.layer.extend(made)
        self.lines += [self._line(i)] * len(made)

    def _is_users(self, kind: str) -> bool:
        return kind in REGISTRY and not any(kind in LAYER_TYPES[dialect] for dialect in DIALECTS)

    def _line(self, i: int) -> int:
        return self.given_lines[i] if i < len(self.given_lines) else 0

    def _refuse(self, i: int, field: str, found: str, fix: str) -> None:
        self.problems.add(found, line=self._line(i), layer=self.net.layer[i].name, field=field, fix=fix)

    def _plain(self, i: int, layer: Any) -> Any:
        def refuse(*complaint: str) -> None:
            self._refuse(i, *complaint)

        target = message_class("LayerParameter", self.to)()
        transfer(layer, target, refuse, skip=BY_RULE)
        for complaint in adapt(layer, target, self.to):
            refuse(*complaint)
        if not habits(self.to).transposes_inner_product and layer.inner_product_param.transpose:
            self.recipes[layer.name] = lambda held: [held[layer.name][0].T, *held[layer.name][1:]]
            self.counts["transposed weights of InnerProduct layers stored the other way round"] += 1
        self.remarks.update(dict.fromkeys(remarks(layer)))
        return target

    def _with_rules(self, i: int, source: Any, target: Any) -> Any:
        """Give a new normalisation layer the rules of the old one."""
        for name in norm.SHARED:
            if name == "phase" and source.HasField(name):
                target.phase = source.phase
            elif name != "phase":
                for rule in getattr(source, name):
                    transfer(rule, getattr(target, name).add(), lambda *_: None)
        if source.blobs:
            self._refuse(i, "blobs", "blobs in the definition of the net", "put them in a .caffemodel")
        return target

    def _split_bn(self, i: int, layer: Any) -> list[Any]:
        scale_name = self.scales[layer.name]
        made, wrong = norm.split_bn(layer, scale_name)
        if wrong:
            self._refuse(i, "param", wrong, "share both or none")
        self.recipes[layer.name] = lambda held: norm.split_blobs(held[layer.name])[0]
        self.recipes[scale_name] = lambda held: norm.split_blobs(held[layer.name])[1]
        self.counts["BN layers made BatchNorm and Scale"] += 1
        return [self._with_rules(i, layer, target) for target in made]

    def _merge_bn(self, i: int, layer: Any) -> Any:
        scale = self.net.layer[self.pairs[i]] if i in self.pairs else None
        made, wrong = norm.merge_bn(layer, scale)
        if wrong:
            self._refuse(i, "param" if "shared" in wrong else "batch_norm_param.use_global_stats", wrong, "")
        name, partner = layer.name, scale.name if scale is not None else None
        self.recipes[name] = lambda held: norm.merge_blobs(held[name], held[partner] if partner else None)
        if partner:
            self.replaced.add(partner)
        what = "BatchNorm layers and the Scale behind each" if partner else "BatchNorm layers without Scale"
        self.counts[f"{what} made BN"] += 1
        return self._with_rules(i, layer, made)

    def _input_layer(self) -> None:
        name = "input"
        while name in self.names:
            name += "_"
        layer = self.message.layer.add(name=name, type="Input", top=self.net.input)
        dims = self.net.input_dim
        shapes = [s.dim for s in self.net.input_shape] or [dims[i : i + 4] for i in range(0, len(dims), 4)]
        for shape in shapes:
            layer.input_param.shape.add(dim=shape)
        if len(shapes) != len(self.net.input):
            expected = "one input_shape, or four input_dim, for each"
            self.problems.add(
                f"{len(self.net.input)} inputs and {len(shapes)} shapes", expected=expected, field="input"
            )
        self.lines.append(0)
        self.counts[f"inputs of the net made tops of an Input layer '{name}'"] += len(self.net.input)

    def _net_inputs(self, i: int, layer: Any) -> list[Any]:
        shapes = layer.input_param.shape
        if layer.include or layer.exclude:
            fix = "convert one phase: remove the layers of the other, and this rule"
            self._refuse(i, "include", "an input in some phases only: the fork's inputs are the net's", fix)
        elif len(shapes) not in (1, len(layer.top)):
            self._refuse(i, "input_param.shape", f"{len(shapes)} shapes for {len(layer.top)} tops", "give all shapes")
        else:
            self.message.input.extend(layer.top)
            for shape in list(shapes) * (len(layer.top) // len(shapes)):
                self.message.input_shape.add(dim=shape.dim)
        self.counts["tops of Input layers made inputs of the net"] += len(layer.top)
        return []

    def notes(self) -> list[str]:
        """What was changed, and what is not the same in training."""
        notes = [f"{what}: {count}" for what, count in self.counts.items()]
        if any("BN" in what for what in self.counts):
            notes.append(
                "training is not identical: momentum and moving_average_fraction weigh the past alike, but bvlc "
                "corrects its average for the start at zero, the fork does not; bvlc's running variance is "
                "unbiased, that of the fork's own code is not"
            )
        if self.scales:
            notes.append("the weight of the accumulated statistics is 1, so the first new batches count more")
        if any(layer.type == "BN" and layer.bn_param.frozen for layer in self.message.layer):
            notes.append("use_global_stats became frozen: slope and bias of such a BN are not learned either")
        return notes + list(self.remarks)


def _check_shapes(conversion: Conversion, phase: str, given: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Build both nets in a phase: raises NetError where the new one does not fit or has other shapes."""
    state = NetState(phase)
    try:
        old = build_graph(conversion.source, state, input_shapes=given)
    except NetError as error:
        return [f"phase {phase} was not checked: {error.problems[0].found}"]
    new = build_graph(conversion.parsed, state, input_shapes=given)
    before, after = _shapes(old), _shapes(new)
    with Problems(NetError, conversion.parsed.file) as problems:
        for blob in before:
            if blob in after and before[blob] != after[blob]:
                found = f"the blob '{blob}' would be {show(after[blob])}"
                problems.add(found, expected=f"{show(before[blob])}, as in {conversion.source.dialect}")
    return []


def _shapes(graph: Graph) -> dict[str, tuple[int, ...]]:
    return {blob: value.shape for blob, value in graph.blobs().items() if value.shape is not None}
