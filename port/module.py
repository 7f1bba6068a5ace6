"""A graph as a torch.fx.GraphModule: submodules bear layer names, nodes bear blob names."""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import fx, nn

from prototxt_gen.base.errors import NetError, Problem, Problems, closest
from prototxt_gen.schema.habits import Habits

from .graph.graph import Graph, Node, Value
from .graph.identifiers import identifier, placeholders, submodule_paths
from .graph.memory import Sharing, Spoiled, find_sharing
from .graph.weaving import Afterwards, Pass, Weaver, litter_key, names, remember
from .layers import Layer, Misfit, show
from .weights.fillers import fill
from .weights.load import shared_slots


class LayerModule(nn.Module):
    """One Caffe layer: its blobs as parameters and buffers under their own names, its torch rule as forward."""

    def __init__(self, node: Node, forced: bool = False):
        super().__init__()
        self.layer: Layer = node.layer
        self.layer_name = node.name
        self.specs = node.specs
        self.checked = tuple(value.shape for value in node.bottoms)  # bottoms' shapes that are known to fit
        self.empty = self._empty(value.shape for value in node.tops)
        self.state: dict[str, Any] = {}  # what a recurrent layer carries from one forward to the next
        flags = [] if forced else list(node.message.propagate_down)  # force_backward overrules them
        self.detached = {i for i, flag in enumerate(flags) if not flag} | set(node.layer.no_gradient)
        for name, module in node.layer.modules().items():
            self.add_module(name, module)

    def set_blob(self, index: int, tensor: torch.Tensor, learns: bool = True) -> None:
        """Give blob `index` its tensor; statistics become buffers, others parameters (that need a gradient or not)."""
        spec = self.specs[index]
        if spec.statistic:
            self.register_buffer(spec.name, tensor)
        elif isinstance(tensor, nn.Parameter):
            self.register_parameter(spec.name, tensor)
        else:
            self.register_parameter(spec.name, nn.Parameter(tensor, requires_grad=learns))

    @property
    def blobs(self) -> list[torch.Tensor]:
        """Parameters and statistics in Caffe's order."""
        return [getattr(self, spec.name) for spec in self.specs]

    def forward(self, *bottoms: torch.Tensor) -> Any:
        if self.detached:
            bottoms = tuple(b.detach() if i in self.detached else b for i, b in enumerate(bottoms))
        shapes = tuple(tuple(b.shape) for b in bottoms)
        try:
            if shapes != self.checked:
                self._check(shapes)
            tops = self.layer.forward(self, *bottoms) if self.empty is None else self._of_nothing(bottoms)
        except Misfit as misfit:
            parts = dict(misfit.parts)
            parts["found"] += f" (bottoms: {', '.join(map(show, shapes))})"
            raise NetError(Problem(layer=self.layer_name, **parts)) from None
        return tops[0] if len(tops) == 1 else tops

    def _check(self, shapes: tuple[tuple[int, ...], ...]) -> None:
        """Raise Misfit for bottoms that Caffe's Reshape would refuse, or that need other parameters."""
        tops = self.layer.top_shapes(*shapes)
        for have, want in zip(self.specs, self.layer.blobs(*shapes), strict=True):
            if have.shape != want.shape:
                raise Misfit(f"its {have.name} is {show(have.shape)}, these bottoms need {show(want.shape)}")
        self.checked, self.empty = shapes, self._empty(tops)

    def _empty(self, tops: Iterable[tuple[int, ...] | None]) -> tuple[tuple[int, ...], ...] | None:
        """The shapes of tops that hold no values at all; None where there is something to compute."""
        shapes = tuple(tops)
        known = shapes and not self.layer.selects and all(shape is not None and 0 in shape for shape in shapes)
        return shapes if known else None  # type: ignore[return-value]

    def _of_nothing(self, bottoms: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """Tops without values, through which bottoms and blobs get gradients of 0."""
        sources = [t.reshape(-1)[:0].sum() for t in (*bottoms, *self.blobs)] or [torch.zeros(())]
        return tuple(sources[0].new_zeros(shape) + torch.stack(sources).sum() for shape in self.empty or ())

    def extra_repr(self) -> str:
        sizes = ", ".join(f"{s.name} {show(s.shape)}" for s in self.specs)
        return f"{self.layer.type}: {sizes}" if sizes else self.layer.type


class SharingModule(LayerModule):
    """A layer in shared memory: its gradient is of what its blobs hold in the end, or its forward pass leaves some."""

    def __init__(self, node: Node, forced: bool, spoiled: Spoiled | None):
        super().__init__(node, forced)
        self.afterwards, self.spoiled = spoiled is not None, names(spoiled)

    def forward(self, memory: Pass, *bottoms: torch.Tensor) -> Any:  # type: ignore[override]
        if self.layer.leaves_scratch:
            remember(memory, litter_key(self.layer_name), self.layer.scratch(*bottoms))
        if not (self.afterwards and torch.is_grad_enabled()):
            return super().forward(*bottoms)
        return Afterwards.apply(super().forward, self, memory, len(bottoms), *bottoms, *self.blobs)


class CaffeNet(fx.GraphModule):
    """A Caffe net in PyTorch; call it with its input blobs by name, get a dict of its output blobs."""

    caffe: Graph
    input_names: dict[str, str]  # blob -> placeholder
    modules_by_layer: dict[str, str]  # layer -> submodule path
    report: Any  # what became of the weights

    def __call__(self, /, *args: torch.Tensor, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        names = self.__dict__.get("input_names", {})
        problems = Problems(NetError, self.__dict__["caffe"].file) if "caffe" in self.__dict__ else Problems(NetError)
        for name in inputs:
            if name not in names:
                problems.add(f"the net has no input '{name}'", fix=closest(name, names))
        for name in list(names)[len(args) :]:
            if name not in inputs:
                problems.add(f"the input '{name}' is missing", expected="inputs: " + ", ".join(names))
        problems.raise_if_any()
        return super().__call__(*args, **{names[name]: value for name, value in inputs.items()})

    def recompile(self) -> Any:
        code = super().recompile()
        type(self).__call__ = CaffeNet.__call__  # type: ignore[method-assign]  # fx puts a wrapper there
        return code

    def __deepcopy__(self, memo: dict) -> CaffeNet:
        other = super().__deepcopy__(memo)
        for name in CaffeNet.__annotations__:  # fx knows nothing of these
            if name in self.__dict__:
                setattr(other, name, copy.deepcopy(self.__dict__[name], memo))
        other._tie()
        return other

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle, torch.save and spawned processes: the graph and its modules, of which the same net is made again.

        Raises NetError for a net whose fx graph was edited, which would not be the same.
        """
        called = [node.target for node in self.graph.nodes if node.op == "call_module"]
        modules = [self.get_submodule(str(target)) for target in called]
        parts = (self.caffe, modules, self.training, self.__dict__.get("report"))
        if len(modules) != len(_computing(self.caffe)) or _restored(*parts).code != self.code:
            found = "the net's fx graph was edited, which pickle cannot keep"
            fix = "pickle the net as it was loaded, and edit it afterwards; or keep its state_dict"
            raise NetError(Problem(found, fix=fix, file=self.caffe.file))
        return _restored, parts

    def _apply(self, fn: Any, recurse: bool = True) -> CaffeNet:
        super()._apply(fn, recurse)  # to(), double(), cuda(): blob by blob, so that each gets memory of its own
        self._tie()
        return self

    def _tie(self) -> None:
        """Have blobs that are shared by name share their memory again."""
        if "caffe" not in self.__dict__:
            return
        nodes = self.caffe.nodes
        for (i, j), (k, m) in shared_slots(self.caffe).items():
            module, owner = self.layer(nodes[i].name), self.layer(nodes[k].name).blobs[m]
            blob = module.blobs[j]
            if self.caffe.habits.shares_gradients and blob.shape == owner.shape and _alike(owner, blob.requires_grad):
                module.set_blob(j, owner)
            else:
                blob.data = owner.data.reshape(blob.shape)

    def layer(self, name: str) -> LayerModule:
        """The submodule of a layer, by the layer's exact name."""
        return self.get_submodule(self.modules_by_layer[name])  # type: ignore[return-value]


def _restored(graph: Graph, modules: list[LayerModule], training: bool, report: Any) -> CaffeNet:
    """A net out of what `CaffeNet.__reduce__` keeps of it."""
    by_node = dict(zip(map(id, _computing(graph)), modules, strict=True))
    net = _assembled(graph, _sharing(graph), by_node)
    if report is not None:
        net.report = report
    net.training = training  # its layers have kept their own
    return net


class _Root(nn.Module):
    """Holds the layer modules while fx copies them."""


def build_module(graph: Graph, arrays: dict[tuple[int, int], Any] | None = None, seed: int = 0) -> CaffeNet:
    """The GraphModule of a graph; `arrays[node index, blob index]` are loaded blobs, fillers make the others."""
    sharing = _sharing(graph)
    return _assembled(graph, sharing, _modules(graph, arrays or {}, seed, sharing))


def _sharing(graph: Graph) -> Sharing:
    return find_sharing(graph) if graph.faithful_bugs else Sharing()


def _computing(graph: Graph) -> list[Node]:
    return [node for node in graph.nodes if node.layer.kind != "data"]


def _assembled(graph: Graph, sharing: Sharing, modules: Mapping[int, LayerModule]) -> CaffeNet:
    """The net of a graph whose layers have their modules, by the id of their nodes."""
    nodes = _computing(graph)
    names = list(dict.fromkeys(node.name for node in nodes))
    paths = submodule_paths(names, {*dir(CaffeNet(nn.Module(), fx.Graph())), *CaffeNet.__annotations__})
    by_layer = dict(paths)
    root, fx_graph = _Root(), fx.Graph()
    places: dict[str, fx.Node] = {}  # what readers take
    inputs = {blob: fx_graph.placeholder(name) for blob, name in placeholders([v.blob for v in graph.inputs]).items()}
    weaver = Weaver(fx_graph, sharing)
    for value in graph.inputs:
        _settle(weaver, value, inputs[value.blob], places)
    for node in nodes:
        path = _place(root, paths[node.name], modules[id(node)])
        if node.specs:  # of several layers of one name, the one that has parameters
            by_layer[node.name] = path
        call = fx_graph.create_node(
            "call_module",
            path,
            (*weaver.arguments(node), *(places[v.name] for v in node.bottoms)),
            name=identifier(node.tops[0].name) if node.tops else None,
        )
        for i, value in enumerate(node.tops):
            place = call if len(node.tops) == 1 else fx_graph.call_function(operator.getitem, (call, i))
            _settle(weaver, value, place, places)
    fx_graph.output({v.blob: places[v.name] for v in graph.outputs})
    net = CaffeNet(root, fx_graph)
    net.caffe, net.modules_by_layer = graph, by_layer
    net.input_names = {blob: str(place.target) for blob, place in inputs.items()}
    return net.train() if graph.state.phase == "TRAIN" else net.eval()


def _place(root: nn.Module, path: str, module: nn.Module) -> str:
    """Put a module under its path; a second layer of the same name gets a path of its own."""
    while True:
        owner: nn.Module = root
        *folders, last = path.split(".")
        for folder in folders:
            if folder not in owner._modules:
                owner.add_module(folder, nn.Module())
            owner = owner._modules[folder]  # type: ignore[assignment]
        if last not in owner._modules:
            owner.add_module(last, module)
            return path
        path += "_"


def _settle(weaver: Weaver, value: Value, place: fx.Node, places: dict[str, fx.Node]) -> None:
    """Enter where a value stands, with what a shared memory does to it."""
    marked, places[value.name] = weaver.made(value, place)
    marked.meta["value"] = value.name
    marked.meta["blob"] = value.blob


def _modules(graph: Graph, arrays: dict[tuple[int, int], Any], seed: int, sharing: Sharing) -> dict[int, LayerModule]:
    """The modules of all layers with their blobs; shared parameters are one storage."""
    modules: dict[int, LayerModule] = {}
    owners: dict[str, torch.Tensor] = {}
    with Problems(NetError, graph.file) as problems:
        for i, node in enumerate(graph.nodes):
            forced, spoiled = graph.net.force_backward, sharing.spoiled.get(node)
            plain = spoiled is None and node not in sharing.scratch
            module = LayerModule(node, forced) if plain else SharingModule(node, forced, spoiled)
            modules[id(node)] = module
            for j, spec in enumerate(node.specs):
                entry = node.message.param[j] if j < len(node.message.param) else None
                learns = _learns(graph, entry)
                shared = owners.get(entry.name) if entry is not None and entry.name else None
                try:
                    if shared is not None:
                        tensor = _shared(graph.habits, shared, spec.shape, learns)
                    elif (i, j) in arrays:
                        # a copy: the file is mapped read-only
                        tensor = torch.tensor(arrays[i, j], dtype=torch.float32).reshape(spec.shape)
                    else:
                        tensor = torch.as_tensor(fill(spec.filler, spec.shape, graph.dialect, seed, node.name, j))
                except Misfit as misfit:
                    problems.add(**misfit.parts, layer=node.name, line=node.line)
                    continue
                module.set_blob(j, tensor, learns)
                if entry is not None and entry.name:
                    owners.setdefault(entry.name, getattr(module, spec.name))
    return modules


def _learns(graph: Graph, entry: Any) -> bool:
    """Whether Caffe computes a parameter's gradient: by its lr_mult, or always with force_backward (semantics 2.8)."""
    rate = 1.0 if entry is None else entry.lr_mult
    return graph.net.force_backward or (rate != 0 if graph.habits.negative_rates_learn else rate > 0)


def _alike(owner: torch.Tensor, learns: bool) -> bool:
    """Whether a sharer's gradient is computed where the owner's is; statistics have none."""
    return owner.requires_grad == learns or not isinstance(owner, nn.Parameter)


def _shared(habits: Habits, owner: torch.Tensor, shape: tuple[int, ...], learns: bool) -> torch.Tensor:
    """A sharer's tensor, with the owner's gradient or one of its own, as its Caffe has it (semantics 2.7).

    A layer that does not compute the gradient, or has another shape, gets a tensor of its own over the same storage.
    """
    if habits.shares_gradients and tuple(owner.shape) == shape and _alike(owner, learns):
        return owner
    data = owner.detach().reshape(shape)  # the same storage
    return nn.Parameter(data, requires_grad=learns) if isinstance(owner, nn.Parameter) else data
