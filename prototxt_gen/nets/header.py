"""The comment on top of each generated file: what it is, what the paper says, what is reconstructed."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterable, Sequence

from .. import paper
from ..paper import Fact
from .config import NetConfig
from .data import databases

WIDTH = 106  # of a comment's text

_PROFILES = {
    "paper": "the text of the paper (numbers in front of a fact are its sections)",
    "postact": "the paper with He's ResNet-101 of 2015 as its main net (numbers in front of a fact are the paper's"
    " sections)",
    "released": "the authors' release, which nobody could fetch while this was written, put together from its"
    " discussions (numbers in front of a fact are the paper's sections)",
}
_DIALECTS = {
    "srn": "the authors' Caffe fork. Normalisation is its layer BN, never in place, because its cuDNN version"
    " then trains with wrong gradients",
    "bvlc": "stock Caffe, BVLC. Normalisation is BatchNorm followed by Scale with a bias",
}
_INPUTS = {"srn": ". The fork has no Input layer: the input is a field of the net", "bvlc": ""}
_AUGMENTATION = {
    "srn": "crops as in the paper: at a corner or the centre (fix_crop), width and height each of {sizes} of {full}"
    " (multi_scale, all pairs by max_distort), resized to {crop}x{crop}, mirrored or not",
    "bvlc": "crops of {crop}x{crop} of {full}x{full} at random positions, mirrored or not. Lost, as stock Caffe has no"
    " multi-scale crops: the sizes {others}, the aspect ratios, and the restriction to corners and centre",
}
_TEST = (
    "the centre {crop}x{crop} of the {full}x{full} images, to watch the losses; the paper's figures are of whole images"
    " resized to {crop}x{crop}, which the test net is given"
)
_DEVICES = {
    "srn": "one process per GPU (mpirun -np), each with the GPU that device_id lists for it; validation is shared",
    "bvlc": "the GPUs are those of the command line (caffe train -gpu); validation runs on the first one",
}
_WEIGHTS = {
    "paper": "step 1 starts from a pre-activation ResNet-101 trained on ImageNet, its layers named as here. He's"
    " published weights bear many of these names, but are of another structure: for them there is the profile postact",
    "released": "step 1 starts from the ImageNet ResNet-101 of the release",
}
_POSTACT_WEIGHTS = {
    "bvlc": "step 1 starts from He's ResNet-101-model.caffemodel: every layer but his fc1000 loads by name",
    "srn": "step 1 starts from He's ResNet-101-model.caffemodel after `python -m port convert --to srn`, which makes"
    " one BN of each BatchNorm and Scale; every layer but his fc1000 then loads by name",
}


def test_header(config: NetConfig, outputs: Iterable[str]) -> str:
    """The header of a test net; `outputs` are its output blobs."""
    shape = "x".join(map(str, config.image_shape))
    mean = ", ".join(map(str, paper.Augmentation().mean))
    lines = [
        *_title(config, "test net"),
        f"Made by: {command(config)}",
        *_profile(config),
        *entry("Dialect ", f"{config.dialect}: {_DIALECTS[config.dialect]}{_INPUTS[config.dialect]}."),
        *entry("Input ", f"data, {shape}: blue, green, red, 0 to 255, minus ({mean})."),
        *entry("Output ", f"{', '.join(outputs)}: {config.classes} logits per image."),
        *_miniature(config),
    ]
    return "\n".join([*lines, *origins(net_facts(config))])


def train_header(config: NetConfig, fixed: Sequence[str], trained: Sequence[str]) -> str:
    """The header of a train_val net; `fixed` and `trained` are parts of the net."""
    step, numbers = config.step, paper.Augmentation()
    assert step is not None
    sizes = ", ".join(map(str, numbers.crop_sizes))
    others = ", ".join(str(size) for size in numbers.crop_sizes if size != numbers.crop_resized)
    crops = _AUGMENTATION[config.dialect].format(
        sizes=sizes, others=others, full=numbers.resized, crop=numbers.crop_resized
    )
    stay = f"; fixed, with lr_mult 0 and statistics that stay: {', '.join(fixed)}" if fixed else ""
    facts = (*net_facts(config), *paper.facts(numbers), *step_facts(config))
    lines = [
        *_title(config, f"train_val net of step {step.number}"),
        f"Made by: {command(config)}",
        *entry("Step ", f"{step.number}: {config.about_step}. Trained: {', '.join(trained)}{stay}."),
        *_profile(config),
        *entry("Dialect ", f"{config.dialect}: {_DIALECTS[config.dialect]}."),
        *entry("Weights ", f"{weights_note(config)}."),
        *entry("Data ", f"{data_note(config)}."),
        *entry("TRAIN ", f"{crops}."),
        *entry("TEST ", f"{_TEST.format(full=numbers.resized, crop=numbers.crop_resized)}."),
        *_miniature(config),
    ]
    return "\n".join([*lines, *origins(facts)])


def solver_header(config: NetConfig) -> str:
    """The header of a step's solver."""
    step = config.step
    assert step is not None
    recipe = config.dataset.recipe
    devices = "" if recipe else f": {_DEVICES[config.dialect]}"
    facts = [*paper.facts(paper.Training()), *step_facts(config)]
    if recipe:
        facts = [fact for fact in facts if fact.section]
    lines = [
        *_title(config, f"solver of step {step.number}, {config.about_step}"),
        f"Made by: {command(config)}",
        *_profile(config),
        *entry("Dialect ", f"{config.dialect}{devices}."),
        *(entry("Recipe ", f"of its own instead of the paper's: {recipe.reason}.") if recipe else ()),
    ]
    return "\n".join([*lines, *origins(facts)])


def data_note(config: NetConfig) -> str:
    """How the databases have to be made."""
    size = paper.Augmentation().resized
    note = (
        f"{', '.join(databases(config))}, below the folder in which Caffe is started: images of {size}x{size}; labels"
        f" as one Datum of {config.classes}x1x1 per image (0 or 1), its key the number in 8 digits, _ and the path."
        " Both are read in the order of their keys, so they are made from one shuffled list, and not shuffled here:"
        f" python -m port lmdb create --resize {size}x{size} --shuffle SEED --labels FILE writes both"
    )
    return f"{note}; {config.dataset.note}" if config.dataset.note else note


def weights_note(config: NetConfig) -> str:
    """Where the weights of a step come from."""
    step = config.step
    assert step is not None
    if config.dataset.recipe and step.number == 1:
        return "step 1 starts from fillers, without weights"
    if step.number > 1:
        return f"of step {step.number - 1}, by layer name; what step {step.number} adds starts from its fillers"
    named = _POSTACT_WEIGHTS[config.dialect] if config.profile.name == "postact" else ""
    note = named or _WEIGHTS.get(config.profile.name, "step 1 starts from ImageNet weights under these layer names")
    return f"{note}; the classifier fc starts from its filler"


def net_facts(config: NetConfig) -> tuple[Fact, ...]:
    """The facts about a net's structure: the paper's own numbers, even where a miniature departs from them."""
    network, profile = config.network, config.profile
    facts = (*paper.numbers_of(*network.numbers), *network.facts, *profile.facts)
    if network.spatial:
        facts += profile.head_facts
        if profile.name == "released":
            facts += paper.numbers_of(paper.ReleasedHead())
    return facts


def step_facts(config: NetConfig) -> tuple[Fact, ...]:
    """The facts about a training step."""
    step = config.step
    assert step is not None
    return step.facts if step.losses else (*step.facts, config.profile.joint_fact)


def origins(facts: Iterable[Fact]) -> list[str]:
    """Facts in three lists: the paper's, those known from elsewhere, and what is reconstructed."""
    facts = list(facts)
    groups = {
        "From the paper:": [fact for fact in facts if fact.section],
        "Known from elsewhere:": [fact for fact in facts if fact.source],
        "Reconstructed, with the reason:": [fact for fact in facts if fact.reason],
    }
    lines = []
    for title, group in groups.items():
        if group:
            lines += ["", title, *(line for fact in group for line in entry("- ", f"{fact}."))]
    return lines


def command(config: NetConfig) -> str:
    """The command that writes a configuration's file."""
    if config.dataset.recipe:
        return config.dataset.recipe.command.format(network=config.network.name)
    defaults = paper.Training()
    options = {
        "--network": config.network.name,
        "--dataset": config.dataset.key,
        "--profile": config.profile.name,
        "--dialect": config.dialect,
    }
    if config.classes != config.dataset.classes:
        options["--classes"] = str(config.classes)
    if config.width_divisor > 1:
        options["--width-divisor"] = str(config.width_divisor)
    words = ["python", "-m", "prototxt_gen", "write"]
    if config.step is not None:
        words.append("--training")
        if config.gpus != defaults.gpus:
            options["--gpus"] = str(config.gpus)
        if config.epochs != defaults.epochs:
            options["--epochs"] = str(config.epochs)
    return shlex.join([*words, *(word for option in options.items() for word in option)])


def _title(config: NetConfig, what: str) -> list[str]:
    data = config.dataset
    labels = f"{config.classes} labels"
    if config.classes != data.classes:
        labels += f" instead of its {data.classes}"
    title = f"{config.network.name} for {data.name} ({labels}): {what}."
    return [*entry("", title), f"{paper.TITLE},", f"{paper.REFERENCE}.", ""]


def _profile(config: NetConfig) -> list[str]:
    name = config.profile.name
    return entry("Profile ", f"{name}: {_PROFILES.get(name, config.profile.about)}.")


def _miniature(config: NetConfig) -> list[str]:
    if config.width_divisor == 1:
        return []
    return entry("Miniature: ", f"every channel count is divided by {config.width_divisor}, for quick checks.")


def entry(mark: str, text: str, indent: str = "  ") -> list[str]:
    """A text behind its mark, in lines."""
    return textwrap.wrap(
        text, WIDTH, initial_indent=mark, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
