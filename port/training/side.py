"""The side file of a snapshot, `<prefix>_iter_<n>.portstate`: what Caffe keeps nowhere and an exact resume needs."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch

from prototxt_gen.base.errors import Problem, WeightsError
from prototxt_gen.base.files import read_bytes

from ..module import CaffeNet

FORMAT = 1
SUFFIX = ".portstate"

Hidden = dict[str, list[torch.Tensor]]  # recurrent layer -> its states


def side_of(state: Path) -> Path:
    """The side file of a .solverstate."""
    stem, found, _ = state.name.rpartition(".solverstate")
    return state.with_name((stem if found else state.name) + SUFFIX)


def write_side(content: dict[str, Any], state: Path) -> bytes:
    """The bytes of a side file that belongs to a written .solverstate."""
    return json.dumps({"format": FORMAT, "solverstate": _sum(state), **content}, indent=1).encode()


def read_side(state: Path) -> tuple[dict[str, Any] | None, str]:
    """The side file's content, or None and why; raises WeightsError for a damaged one.

    A state that Caffe wrote has none, and one that Caffe wrote over ours has another's.
    """
    path = side_of(state)
    if not path.exists():
        return None, f"there is no {path.name} beside it, as Caffe writes none"
    try:
        content = json.loads(read_bytes(path, WeightsError))
        if content["format"] != FORMAT:
            fix = "use the version of this project that wrote it, or --restart-data"
            raise WeightsError(Problem(f"format {content['format']}", str(FORMAT), fix, file=path, field="format"))
        if content["solverstate"] != _sum(state):
            return None, f"{path.name} belongs to another state of this name"
    except (ValueError, KeyError, TypeError):
        fix = "resume from an earlier snapshot, or use --restart-data"
        raise WeightsError(Problem("the file is damaged", "JSON as this project writes it", fix, file=path)) from None
    return content, ""


def _sum(state: Path) -> int:
    return crc32(read_bytes(state, WeightsError))


def hidden_states(net: CaffeNet) -> Hidden:
    """What the recurrent layers of a net hand to their next forward pass."""
    modules = {node.name: net.layer(node.name) for node in net.caffe.nodes if node.layer.kind != "data"}
    return {name: list(module.state["hidden"]) for name, module in modules.items() if module.state.get("hidden")}


def restore_hidden(net: CaffeNet, states: dict[str, Any], device: torch.device) -> None:
    """Give the recurrent layers what `packed` holds of them."""
    for layer, held in states.items():
        if layer in net.modules_by_layer:
            net.layer(layer).state["hidden"] = [_unpacked(entry).to(device) for entry in held]


def packed(nets: list[Hidden]) -> list[dict[str, Any]]:
    """Hidden states as JSON can hold them."""
    return [{layer: [_packed(tensor) for tensor in held] for layer, held in states.items()} for states in nets]


def _packed(tensor: torch.Tensor) -> dict[str, Any]:
    array = tensor.detach().cpu().numpy().astype("<f4")
    return {"shape": list(array.shape), "float32": base64.b64encode(array.tobytes()).decode()}


def _unpacked(entry: dict[str, Any]) -> torch.Tensor:
    array = np.frombuffer(base64.b64decode(entry["float32"]), "<f4").reshape(entry["shape"])
    return torch.from_numpy(array.astype(np.float32))
