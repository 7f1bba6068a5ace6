"""The comment on top of each generated file: what it is, what the paper says, what is reconstructed."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterable

from .. import paper
from .config import NetConfig

WIDTH = 106  # of a comment's text

_PROFILES = {"paper": "the text of the paper (numbers in front of a fact are its sections)"}
_DIALECTS = {
    "srn": "the authors' Caffe fork. Normalisation is its layer BN, never in place, because its cuDNN version"
    " then trains with wrong gradients. The fork has no Input layer: the input is a field of the net",
    "bvlc": "stock Caffe, BVLC. Normalisation is BatchNorm followed by Scale with a bias",
}


def header(config: NetConfig, outputs: Iterable[str]) -> str:
    """The header of a test net; `outputs` are its output blobs."""
    data = config.dataset
    labels = f"{config.classes} labels"
    if config.classes != data.classes:
        labels += f" instead of its {data.classes}"
    shape = "x".join(map(str, config.image_shape))
    mean = ", ".join(map(str, paper.Augmentation().mean))
    lines = [
        f"{config.network} for {data.name} ({labels}): test net.",
        f"{paper.TITLE},",
        f"{paper.REFERENCE}.",
        "",
        f"Made by: {command(config)}",
        *_entry("Profile ", f"{config.profile}: {_PROFILES[config.profile]}."),
        *_entry("Dialect ", f"{config.dialect}: {_DIALECTS[config.dialect]}."),
        *_entry("Input ", f"data, {shape}: blue, green, red, 0 to 255, minus ({mean})."),
        *_entry("Output ", f"{', '.join(outputs)}: {config.classes} logits per image."),
    ]
    if config.width_divisor > 1:
        text = f"every channel count is the paper's divided by {config.width_divisor}, for quick checks."
        lines += _entry("Miniature: ", text)
    # The paper's own numbers, even where a miniature departs from them.
    groups = [paper.MainNet()] + ([paper.Head()] if config.network != "ResNet-101" else [])
    facts = [fact for group in groups for fact in paper.facts(group)]
    lines += ["", "From the paper:"]
    lines += [line for fact in facts if fact.section for line in _entry("- ", f"{fact}.")]
    lines += ["", "Reconstructed, with the reason:"]
    chosen = [fact for fact in (*facts, *paper.STRUCTURE) if not fact.section]
    lines += [line for fact in chosen for line in _entry("- ", f"{fact}.")]
    return "\n".join(lines)


def command(config: NetConfig) -> str:
    """The command that writes a configuration's file."""
    options = {
        "--network": config.network,
        "--dataset": config.dataset.key,
        "--profile": config.profile,
        "--dialect": config.dialect,
    }
    if config.classes != config.dataset.classes:
        options["--classes"] = str(config.classes)
    if config.width_divisor > 1:
        options["--width-divisor"] = str(config.width_divisor)
    words = [word for option in options.items() for word in option]
    return shlex.join(["python", "-m", "prototxt_gen", "write", *words])


def _entry(mark: str, text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=mark, subsequent_indent="  ", break_long_words=False)
