"""What a loaded net says about itself: where Caffe's memory made it another one than the net means."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from prototxt_gen.base.errors import CaffeWarning

from .graph import Graph, Node
from .memory import Sharing, find_sharing, running_backward

MOST = 5  # names in one sentence


class SharedMemoryWarning(CaffeWarning):
    """Layers of the net share memory in Caffe, which computed something else there than the net means."""


def warn_of_sharing(graph: Graph) -> None:
    """Warn, once for a graph, of everything that Caffe's memory did to it; nothing where it did nothing."""
    if graph.faithful_bugs:
        return
    sentences = sharing_notes(graph)
    if sentences:
        place = graph.file or graph.name
        head = f"{place}: Caffe lets layers share memory, and that changed what this net computed there"
        tail = "Here the mathematics is computed; faithful_bugs=True computes what Caffe did (docs/layers.md)."
        warnings.warn(f"{head}. {' '.join(sentences)} {tail}", SharedMemoryWarning, stacklevel=3)


def sharing_notes(graph: Graph) -> list[str]:
    """One sentence for every pattern that has an effect in a graph."""
    found, running = find_sharing(graph), running_backward(graph)
    sentences = []
    if found.overwritten:
        writers = _layers(node for nodes in found.overwritten.values() for node in nodes)
        sentences.append(f"What {_layers(found.overwritten)} read was overwritten by {writers}.")
    spoiled = {node: entry for node, entry in found.spoiled.items() if node in running}
    if spoiled:
        writers = _layers(node for node, entry in spoiled.items() for node in (entry.writers or [node]))
        sentences.append(f"The gradient of {_layers(spoiled)} was taken from values overwritten in place by {writers}.")
    return sentences + _of_gradients(found, running)


def _of_gradients(found: Sharing, running: set[Node]) -> list[str]:
    """The patterns in the memory of gradients."""
    sentences = []
    lost = [pair for pair in found.lost.values() if pair[1] in running]
    if lost:
        makers, flattens = (_layers(nodes) for nodes in zip(*lost, strict=True))
        sentences.append(f"No gradient came through {makers}, since {flattens} behind pointed it to other memory.")
    if found.unweighted:
        losses = _layers(found.unweighted.values())
        sentences.append(
            f"The loss weight 1 of {losses}, not written in the file, gave no gradient: others read the loss."
        )
    scratch = [node for node, value in found.scratch.items() if any(value in each.bottoms for each in running)]
    if scratch:
        sentences.append(f"The scratch values of {_layers(scratch)} were added to the gradient of what it reads.")
    return sentences


def _layers(nodes: Iterable[Node]) -> str:
    """Layers by name, some of many."""
    names = list(dict.fromkeys(node.name for node in nodes))
    shown = ", ".join(f"'{name}'" for name in names[:MOST])
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return f"layer{'s' if len(names) > 1 else ''} {shown}{more}"
