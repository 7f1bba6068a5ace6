"""Writing a net for those who have PyTorch alone: model.py with its weights, or an exported program."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prototxt_gen.base.errors import CaffeError, ExportError, Problem, Problems
from prototxt_gen.base.files import atomic_write, unwritable, write_text

from ..graph.graph import Graph
from ..layers import Misfit
from ..layers.plain_torch import piece_of
from ..module import CaffeNet
from ..net import params
from ..weights.arrays import save_arrays
from ..weights.sources import NONE, provenance
from .source import net_source
from .units import Layers


def write_source(net: CaffeNet, path: str | Path) -> int:
    """Write `path` (a .py file) and, beside it, its .safetensors; returns the number of lines.

    The file needs torch and safetensors alone; `load()` gives the net, whose forward takes the inputs in order and
    gives the outputs by blob. It is a net for evaluation. Raises ExportError with every layer that has no plain form,
    CaffeError where a file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".py":
        raise ExportError(Problem(f"the name ends in '{path.suffix}'", "a Python file (.py)", file=path))
    weights = path.with_suffix(".safetensors")
    if problems := [*unwritable(path), *unwritable(weights)]:
        raise CaffeError(problems)
    graph = net.caffe
    facts = provenance(net, "torch")
    layers = _pieces(net)
    text, state = net_source(layers, graph.inputs, _outputs(graph), _head(graph, facts))
    path.unlink(missing_ok=True)  # an older model is never beside weights of this one
    save_arrays(
        {name: _plain(array) for name, array in state.items()}, weights, "safetensors", facts | {"format": "pt"}
    )
    write_text(path, text)
    return text.count("\n")


def _plain(array: np.ndarray) -> np.ndarray:
    return np.array(array, np.float32 if array.dtype.kind == "f" else array.dtype, order="C")


def _outputs(graph: Graph) -> list[Any]:
    made = {value for node in graph.nodes if node.layer.kind != "data" for value in node.tops}
    return [value for value in graph.outputs if value in made]


def _head(graph: Graph, facts: dict[str, str]) -> str:
    """The file's text, which says where it came from, and its imports."""
    title = f"{graph.name or 'A net'} of Caffe, in PyTorch."
    said = [title, "", *(f"    {name}: {value}" for name, value in sorted(facts.items()) if value != NONE)]
    lines = [line.encode("unicode_escape").decode().replace('"', "'") for line in said]
    lines = ['"""' + lines[0], *lines[1:], '"""', "", "from pathlib import Path", "", "import torch"]
    lines += ["import torch.nn.functional as F", "from safetensors.torch import load_file", "from torch import nn"]
    return "\n".join([*lines, "", ""])


def _pieces(net: CaffeNet) -> Layers:
    """Every layer that computes, as plain torch; raises ExportError with all that has no such form."""
    graph = net.caffe
    held = {name: [blob.detach().cpu().numpy() for blob in blobs] for name, blobs in params(net).items()}
    layers: Layers = []
    with Problems(ExportError, graph.file) as problems:
        if graph.faithful_bugs:
            problems.add("a net with Caffe's defects", expected="one without faithful_bugs")
        for node in graph.nodes:
            if node.layer.kind == "data":
                continue
            shapes = [value.shape or () for value in node.bottoms], [value.shape or () for value in node.tops]
            try:
                layers.append((node, piece_of(node.layer, held.get(node.name, []), *shapes)))
            except Misfit as misfit:
                problems.add(**misfit.parts, layer=node.name, line=node.line)
        if not layers and not problems.found:
            problems.add("the net computes nothing", expected="layers that compute")
    return layers


def write_program(net: CaffeNet, path: str | Path) -> None:
    """Write the net as an exported program (torch.export, .pt2), which torch alone loads; the batch is the net's own.

    Raises ExportError where torch cannot trace a layer.
    """
    graph = net.caffe
    shapes = [value.shape for value in graph.inputs]
    if any(not shape for shape in shapes):
        raise ExportError(Problem("an input has no shape", "shapes that the net says", file=graph.file))
    given = tuple(torch.zeros(shape) for shape in shapes if shape)
    program = _attempt(lambda: torch.export.export(net, given), graph.file)
    with atomic_write(path) as file:
        torch.export.save(program, file, extra_files={"provenance.json": _json(provenance(net, "torch"))})


def _json(facts: dict[str, str]) -> str:
    return json.dumps(facts, indent=1, sort_keys=True)


def _attempt(work: Callable[[], Any], file: str) -> Any:
    try:
        with torch.no_grad():
            return work()
    except CaffeError:
        raise
    except Exception as cause:  # torch.export raises many kinds
        first = str(cause).strip().split("\n")[0]
        raise ExportError(Problem(f"torch.export cannot trace the net: {first}", file=file)) from None
