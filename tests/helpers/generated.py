"""What the tests of the generated files share: all nets there are, miniatures on disk, and how they are run."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from prototxt_gen.nets import NETWORKS, PROFILES, at_step, build_net, configure
from prototxt_gen.nets.write import net_text
from prototxt_gen.schema.messages import DIALECTS
from prototxt_gen.schema.text import parse

GOLDEN = Path(__file__).parents[1] / "golden" / "prototxt"
CLASSES, BATCH = 5, 2
SHAPES = {"data": (BATCH, 3, 224, 224), "label": (BATCH, CLASSES, 1, 1)}

VARIANTS = [(profile, dialect) for profile in PROFILES for dialect in DIALECTS]
SPATIAL = [name for name, network in NETWORKS.items() if network.spatial]


def own_steps() -> list[tuple[str, int]]:
    """(network, step) of every train_val net, each with the network in whose files it belongs."""
    return [(name, step.number) for name, net in NETWORKS.items() for step in net.steps if step.network == name]


@cache
def builder(network: str, profile: str, dialect: str, step: int | None = None, **options):
    """The NetBuilder of a net."""
    return build_net(configure(network, profile=profile, dialect=dialect, step=step, **options))


@cache
def step_of(network: str, number: int):
    """The step of a network."""
    return NETWORKS[network].steps[number - 1]


@cache
def message(network: str, profile: str, dialect: str, step: int | None = None):
    """A net as its own dialect parses it from the generated text."""
    return parse(net_text(network, profile=profile, dialect=dialect, step=step), dialect=dialect)


def in_phase(net, phase: str) -> list:
    """The layers of a generated net that a phase keeps."""
    number = {"TRAIN": 0, "TEST": 1}[phase]
    return [layer for layer in net.layer if not layer.include or layer.include[0].phase == number]


def miniature(folder: Path, network: str, profile: str, dialect: str, step: int | None = None) -> Path:
    """A net file with a 32nd of the channels and few labels."""
    text = net_text(network, profile=profile, dialect=dialect, step=step, classes=CLASSES, width_divisor=32)
    path = folder / f"{network}_{profile}_{dialect}_{step}.prototxt"
    path.write_text(text)
    return path


def settle(net) -> None:
    """Statistics of normalised blobs: those that fillers give, variances of 0, would blow up a net that uses them."""
    for node in net.caffe.nodes:
        if node.layer.type in ("BN", "BatchNorm"):
            for spec, blob in zip(node.specs, net.layer(node.name).blobs, strict=True):
                if spec.name in ("variance", "count"):
                    blob.data.fill_(1)


def batch(seed: int = 0) -> dict[str, np.ndarray]:
    """An image batch and its labels, both phases' inputs."""
    random = np.random.RandomState(seed)
    return {
        "data": (random.standard_normal(SHAPES["data"]) * 60).astype(np.float32),
        "label": (random.uniform(size=SHAPES["label"]) > 0.5).astype(np.float32),
    }


__all__ = [
    "BATCH",
    "CLASSES",
    "DIALECTS",
    "GOLDEN",
    "NETWORKS",
    "PROFILES",
    "SHAPES",
    "SPATIAL",
    "VARIANTS",
    "at_step",
    "batch",
    "builder",
    "in_phase",
    "message",
    "miniature",
    "own_steps",
    "settle",
    "step_of",
]
