"""Writes the Caffe nets, solvers and scripts of Spatial Regularization Networks.

import prototxt_gen
prototxt_gen.write_net("nets/", "ResNet-SRN", "coco", dialect="srn")
prototxt_gen.write_training("coco/", "ResNet-SRN", "coco", dialect="srn", gpus=2)
print(prototxt_gen.net_text("ResNet-101", classes=20))

net = prototxt_gen.NetBuilder("mine", "bvlc")
x = net.input("data", (1, 3, 224, 224))
x = net.Convolution("conv1", x, num_output=64, kernel_size=7, stride=2)
print(net.to_text())
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .builder import NetBuilder
    from .nets import Main, Network, Profile, Step, add_dataset, add_network, add_profile, build_net, configure
    from .nets.write import net_text, training_files, write_all, write_net, write_training
    from .paper import DataSet

__all__ = [
    "DataSet",
    "Main",
    "NetBuilder",
    "Network",
    "Profile",
    "Step",
    "add_dataset",
    "add_network",
    "add_profile",
    "build_net",
    "configure",
    "net_text",
    "networks",
    "training_files",
    "write_all",
    "write_net",
    "write_training",
]

# Loaded on first use, so that importing one module of the package costs no other.
_HOMES = {
    "DataSet": ".paper",
    "Main": ".nets",
    "NetBuilder": ".builder",
    "Network": ".nets",
    "Profile": ".nets",
    "Step": ".nets",
    "add_dataset": ".nets",
    "add_network": ".nets",
    "add_profile": ".nets",
    "build_net": ".nets",
    "configure": ".nets",
    "net_text": ".nets.write",
    "training_files": ".nets.write",
    "write_all": ".nets.write",
    "write_net": ".nets.write",
    "write_training": ".nets.write",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name], __name__), name)


def networks() -> list[str]:
    """The names of the networks that can be written."""
    from .nets import NETWORKS

    return list(NETWORKS)
