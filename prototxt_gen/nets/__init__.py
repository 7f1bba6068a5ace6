"""The paper's networks, built from its numbers: what there is, the choice of options, and adding to them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from ..base.errors import Problems, UsageError, closest
from ..paper import DATASETS, DataSet, Training
from ..schema.dialect import DEFAULT as DEFAULT_DIALECT
from ..schema.messages import DIALECTS
from .build import build_net
from .config import LOGITS, Main, NetConfig, Network, Profile, Step, width_divisors
from .networks import NETWORKS
from .profiles import PROFILES
from .schedule import possible_gpus

__all__ = [
    "DATASETS",
    "DEFAULT_DATASET",
    "DEFAULT_DIALECT",
    "DEFAULT_PROFILE",
    "DIALECT_NAMES",
    "LOGITS",
    "NETWORKS",
    "PROFILES",
    "Main",
    "NetConfig",
    "Network",
    "Profile",
    "Step",
    "add_dataset",
    "add_network",
    "add_profile",
    "at_step",
    "build_net",
    "configure",
]

DEFAULT_DATASET = "coco"
DEFAULT_PROFILE = "paper"
DIALECT_NAMES = {"bvlc": "stock Caffe (BatchNorm and Scale)", "srn": "the authors' Caffe fork (BN)"}


def configure(
    network: str,
    dataset: str | DataSet = DEFAULT_DATASET,
    *,
    profile: str | Profile = DEFAULT_PROFILE,
    dialect: str = DEFAULT_DIALECT,
    classes: int | None = None,
    width_divisor: int = 1,
    gpus: int = Training().gpus,
    epochs: int = Training().epochs,
    step: int | None = None,
) -> NetConfig:
    """The net that a choice of options means; raises UsageError with every option that is not possible.

    `dataset` and `profile` are names of known ones, or such objects, which then need not be made known.
    `classes` replaces the data set's number of labels. `width_divisor` divides every channel count: a
    miniature of the same structure, with maps of the same size. With `step` it is the train_val net of that
    step of the network's training, on `gpus` GPUs, with `epochs` epochs at each learning rate.
    """
    with Problems(UsageError) as problems:
        _check_choice(problems, "--network", network, NETWORKS)
        if isinstance(dataset, str):
            _check_choice(problems, "--dataset", dataset, DATASETS)
        _check_choice(problems, "--dialect", dialect, DIALECTS)
        if isinstance(profile, str):
            _check_choice(problems, "--profile", profile, PROFILES)
        if classes is not None and classes < 1:
            problems.add(f"--classes {classes} is not possible", expected="1 or more labels")
        _check_number(problems, "--width-divisor", width_divisor, width_divisors())
        _check_number(problems, "--gpus", gpus, possible_gpus())
        if epochs < 1:
            problems.add(f"--epochs {epochs} is not possible", expected="1 or more at each learning rate")
        steps = [each.number for each in NETWORKS[network].steps] if network in NETWORKS else []
        if step is not None and steps and step not in steps:
            allowed = f"one of the steps of {network}: {', '.join(map(str, steps))}"
            problems.add(f"step {step} is not possible", expected=allowed)
    data = DATASETS[dataset] if isinstance(dataset, str) else dataset
    reading = PROFILES[profile] if isinstance(profile, str) else profile
    labels = data.classes if classes is None else classes
    config = NetConfig(NETWORKS[network], data, labels, reading, dialect, width_divisor, gpus, epochs).narrowed()
    return config if step is None else at_step(config, NETWORKS[network].steps[steps.index(step)])


def at_step(config: NetConfig, step: Step) -> NetConfig:
    """The configuration of a training step's net; it belongs to the network with whose files it is written."""
    return replace(config, network=NETWORKS[step.network], step=step)


def add_dataset(data: DataSet) -> None:
    """Make a data set known under its key; raises UsageError for a key that is taken or no file name."""
    with Problems(UsageError) as problems:
        _check_new(problems, "data set", data.key, DATASETS)
        for what in ("classes", "training_images", "test_images"):
            if getattr(data, what) < 1:
                problems.add(f"data set '{data.key}': {what} is {getattr(data, what)}", expected="1 or more")
    DATASETS[data.key] = data


def add_network(network: Network) -> None:
    """Make a network known under its name; raises UsageError for a name that is taken or steps that do not fit."""
    with Problems(UsageError) as problems:
        _check_new(problems, "network", network.name, NETWORKS)
        numbers = [step.number for step in network.steps]
        if numbers != list(range(1, len(numbers) + 1)):
            problems.add(f"network '{network.name}' has steps {numbers}", expected="steps 1, 2, ... in order")
        for step in network.steps:
            if step.network != network.name and step.network not in NETWORKS:
                allowed = f"'{network.name}' or a network that is known"
                problems.add(f"{step.stem} belongs to network '{step.network}'", expected=allowed)
    NETWORKS[network.name] = network


def add_profile(profile: Profile) -> None:
    """Make a profile known under its name; raises UsageError for a name that is taken."""
    with Problems(UsageError) as problems:
        _check_new(problems, "profile", profile.name, PROFILES)
    PROFILES[profile.name] = profile


def _check_new(problems: Problems, what: str, name: str, known: Iterable[str]) -> None:
    if name in known:
        problems.add(f"there is a {what} '{name}' already", fix="choose another name")
    if not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", name):
        problems.add(f"the name '{name}' of a {what}", expected="letters, digits and any of _ . + - (it names files)")


def _check_choice(problems: Problems, option: str, value: str, allowed: Iterable[str]) -> None:
    allowed = list(allowed)
    if value not in allowed:
        hint = closest(value, allowed)
        fix = hint if hint.startswith("did you mean") else ""
        problems.add(f"{option} {value} is not possible", expected="one of: " + ", ".join(allowed), fix=fix)


def _check_number(problems: Problems, option: str, value: int, allowed: Iterable[int]) -> None:
    allowed = list(allowed)
    if value not in allowed:
        problems.add(f"{option} {value} is not possible", expected=f"one of: {', '.join(map(str, allowed))}")
