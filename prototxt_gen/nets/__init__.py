"""The paper's networks, built from its numbers: the list, the choice of options, the net itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ..builder import NetBuilder
from ..errors import Problems, UsageError, closest
from ..paper import DATASETS
from ..schema.dialect import DEFAULT as DEFAULT_DIALECT
from ..schema.messages import DIALECTS
from .config import NetConfig, width_divisors
from .resnet import resnet101
from .srn import resnet_srn

DEFAULT_DATASET = "coco"
DEFAULT_PROFILE = "paper"


@dataclass(frozen=True)
class Network:
    """A network of the paper: its part of the release's file names, and what builds it in each profile."""

    file: str
    about: str
    profiles: Mapping[str, Callable[[NetConfig], NetBuilder]]


NETWORKS = {
    "ResNet-101": Network("resnet101", "baseline: the main net with C outputs", {"paper": resnet101}),
    "ResNet-SRN": Network("resnet101_srn", "the full net: main net and regularization head", {"paper": resnet_srn}),
}
PROFILES = {"paper": "the text of the paper; what it leaves open is said in each file's header"}
DIALECT_NAMES = {"bvlc": "stock Caffe (BatchNorm and Scale)", "srn": "the authors' Caffe fork (BN)"}


def configure(
    network: str,
    dataset: str = DEFAULT_DATASET,
    *,
    profile: str = DEFAULT_PROFILE,
    dialect: str = DEFAULT_DIALECT,
    classes: int | None = None,
    width_divisor: int = 1,
) -> NetConfig:
    """The net that a choice of options means; raises UsageError with every option that is not possible.

    `classes` replaces the data set's number of labels. `width_divisor` divides every channel count: a
    miniature of the same structure, with maps of the same size.
    """
    with Problems(UsageError) as problems:
        _check_choice(problems, "--network", network, NETWORKS)
        _check_choice(problems, "--dataset", dataset, DATASETS)
        _check_choice(problems, "--dialect", dialect, DIALECTS)
        offered = NETWORKS[network].profiles if network in NETWORKS else PROFILES
        _check_choice(problems, "--profile", profile, offered)
        if classes is not None and classes < 1:
            problems.add(f"--classes {classes} is not possible", expected="1 or more labels")
        if width_divisor not in width_divisors():
            allowed = ", ".join(map(str, width_divisors()))
            problems.add(f"--width-divisor {width_divisor} is not possible", expected=f"one of: {allowed}")
    data = DATASETS[dataset]
    labels = data.classes if classes is None else classes
    return NetConfig(network, data, labels, profile, dialect, width_divisor).narrowed()


def build_net(config: NetConfig) -> NetBuilder:
    """The net of a configuration: `.build()` is its message, `.parts` the part each layer belongs to."""
    return NETWORKS[config.network].profiles[config.profile](config)


def _check_choice(problems: Problems, option: str, value: str, allowed: Iterable[str]) -> None:
    allowed = list(allowed)
    if value not in allowed:
        hint = closest(value, allowed)
        fix = hint if hint.startswith("did you mean") else ""
        problems.add(f"{option} {value} is not possible", expected="one of: " + ", ".join(allowed), fix=fix)
