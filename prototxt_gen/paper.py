"""Every number of the paper, once, with its section; and what is put where it leaves one open, and why.

"Learning Spatial Regularization with Image-level Supervisions for Multi-label Image Classification",
Zhu, Li, Ouyang, Yu, Wang, CVPR 2017, arXiv:1702.05891. The figures of its tables are with the code that
prints them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

TITLE = "Learning Spatial Regularization with Image-level Supervisions for Multi-label Image Classification"
REFERENCE = "Zhu, Li, Ouyang, Yu, Wang, CVPR 2017, arXiv:1702.05891"


def stated(value: Any, section: str, text: str) -> Any:
    """A number of the paper; `text` says in words what section says so, with {} for the value."""
    return field(default=value, metadata={"text": text, "section": section})


def reconstructed(value: Any, text: str, reason: str) -> Any:
    """A number the paper leaves open, and the reason for the value."""
    return field(default=value, metadata={"text": text, "reason": reason})


def known(value: Any, source: str, text: str) -> Any:
    """A number that is not the paper's but known from elsewhere."""
    return field(default=value, metadata={"text": text, "source": source})


@dataclass(frozen=True)
class Fact:
    """One choice in words, and where it is from: a section of the paper, another source, or a reason."""

    text: str
    section: str = ""
    reason: str = ""
    source: str = ""

    def __str__(self) -> str:
        if self.section:
            return f"{self.section}: {self.text}"
        return f"{self.text} ({self.source})" if self.source else f"{self.text}: {self.reason}"


def facts(numbers: Any) -> Iterator[Fact]:
    """The numbers of one of this module's dataclasses as `Fact`s, in order."""
    for each in fields(numbers):
        about = each.metadata
        if about:
            value = getattr(numbers, each.name)
            words = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            origin = {kind: about.get(kind, "") for kind in ("section", "reason", "source")}
            yield Fact(about["text"].format(words), **origin)


def numbers_of(*groups: Any) -> tuple[Fact, ...]:
    """The facts of several of this module's dataclasses."""
    return tuple(fact for group in groups for fact in facts(group))


@dataclass(frozen=True)
class MainNet:
    """ResNet-101 and its classifier, f_cnn and f_cls (3.1). Sizes are in pixels and channels."""

    image: int = stated(224, "3.4", "input images of {0}x{0}")
    units: tuple[int, ...] = stated(
        (3, 4, 23, 3), "3.1", "the structure of ResNet-101: {} residual units in the four stages"
    )
    outputs: tuple[int, ...] = stated((256, 512, 1024, 2048), "3.1", "{} channels after the stages")
    tap: str = stated("res4b22_relu", "3.1", "the head reads the output X of layer {}")
    tap_size: int = stated(14, "3.1", "X has {0}x{0} positions")
    last_size: int = stated(7, "3.1", "the last stage has {0}x{0} positions, which are averaged")
    stem: int = reconstructed(64, "stem with {} channels", "as in every ResNet, not given in the paper")
    expansion: int = reconstructed(
        4, "bottlenecks with 1/{} of a unit's channels", "as in every ResNet-101, not given in the paper"
    )
    pool1_pad: int = reconstructed(
        0, "pool1 with padding {}", "with 1, Caffe's rounding up would make X 15x15 instead of 14x14"
    )
    eps: float = reconstructed(
        1e-5, "normalisation eps {}, no bias before it", "Caffe's default, and that of the model the authors converted"
    )
    fillers: tuple[str, str] = reconstructed(
        ("msra", "xavier"),
        "fillers {} for convolutions and fully connected layers",
        "the paper starts from ImageNet weights and gives none",
    )

    @property
    def tap_channels(self) -> int:
        """Channels of X: the output of the third stage."""
        return self.outputs[2]


@dataclass(frozen=True)
class Head:
    """The spatial regularization net (3.2 to 3.4): attention, confidence, regularization, weighted sum."""

    attention: tuple[int, int] = stated(
        (512, 512),
        "3.2",
        "f_att: convolutions 1x1 and 3x3 with {} kernels, ReLU after each, then 1x1 with C kernels",
    )
    conv3: int = stated(512, "3.3", "conv3 (1x1): {} kernels, one per group of conv4")
    conv4: int = stated(2048, "3.3", "conv4: {} kernels in groups, 4 kernels for each channel of conv3")
    conv4_size: int = stated(14, "3.3", "conv4's kernels are {0}x{0}, the whole map")
    alpha: float = stated(0.5, "3.4", "y = alpha y_cls + (1 - alpha) y_sr with alpha = {}")
    conv2: int = reconstructed(
        512,
        "conv2 (1x1): {} kernels",
        "the text gives no number; an independent port of the released net has it",
    )


@dataclass(frozen=True)
class Deeper:
    """ResNet-107 (4): the main net with more residual units."""

    extra_units: int = stated(2, "4", "{} more residual units of 2048 channels after res5c_relu")


@dataclass(frozen=True)
class Semantic:
    """ResNet-101-semantic (4): a head that sees confidences and features, but no positions."""

    hidden: tuple[int, int] = stated(
        (2048, 2048),
        "4",
        "the C initial confidences joined with the feature of pool5, then fully connected layers of {} and C outputs",
    )
    confidences: str = reconstructed(
        "logits", "the initial confidences are y_cls as it is: {}", "the paper applies no sigmoid to y_cls"
    )
    activation: str = reconstructed(
        "ReLU", "{} behind the fully connected layers of 2048", "without it, the three would be one linear map"
    )


@dataclass(frozen=True)
class ReleasedHead:
    """What the released head has beyond the text. Sizes in channels."""

    extra_units: int = known(2, "its discussions name their layers", "{} more residual units before the attention")
    confidence: int = known(
        512, "stated by the authors", "the paper's conv1 is two convolutions 1x1, with {} and C kernels"
    )


@dataclass(frozen=True)
class Training:
    """The four training steps (3.4): stochastic gradient descent with stepped rates."""

    batch: int = stated(96, "3.4", "batches of {} images")
    gpus: int = stated(4, "3.4", "on {} GPUs")
    momentum: float = stated(0.9, "3.4", "momentum {}")
    weight_decay: float = stated(0.0005, "3.4", "weight decay {}")
    first_rate: float = stated(1e-3, "3.4", "initial learning rate {}")
    last_rate: float = stated(1e-5, "3.4", "final learning rate {}")
    rate_divisor: int = stated(10, "3.4", "the rate is divided by {} whenever the validation loss saturates")
    hours_coco: int = stated(16, "3.4", "about {} hours for all steps on MS-COCO, on Titan X cards")
    epochs: int = reconstructed(
        10,
        "{} epochs at each rate",
        "Caffe cannot wait for a loss to saturate, and the paper gives no number: four steps of 30 epochs on MS-COCO"
        " in 16 hours are 172 images a second on the four cards",
    )
    restarts: str = reconstructed(
        "initial", "every step begins again at the {} rate", "the paper describes one schedule and four steps"
    )
    test_batch: int = reconstructed(
        12, "{} images per GPU and pass of the validation", "memory is left beside the net in training"
    )


@dataclass(frozen=True)
class Augmentation:
    """How training images are cropped (3.4), and the mean that is subtracted. Sizes in pixels."""

    resized: int = stated(256, "3.4", "images are resized to {0}x{0}")
    crop_sizes: tuple[int, ...] = stated(
        (256, 224, 192, 168, 128),
        "3.4",
        "crop width and height are each drawn from {}, at the corners or the centre",
    )
    crop_resized: int = stated(224, "3.4", "crops are resized to {0}x{0}; test images are so directly")
    mean: tuple[int, int, int] = reconstructed(
        (104, 117, 123), "the mean (blue, green, red) is {}", "from the authors' test program"
    )


@dataclass(frozen=True)
class Evaluation:
    """When a label counts as predicted (4.1)."""

    threshold: float = stated(0.5, "4.1", "a label is predicted when its confidence is above {}")
    top: int = stated(3, "4.1", "and in a second protocol when it is among the {} most confident")
    test_batch: int = reconstructed(48, "batches of {} test images", "from the authors' test program")


@dataclass(frozen=True)
class Claims:
    """Sizes the paper gives for its nets (3), in parameters."""

    head: int = stated(6_000_000, "3", "the head adds about {} parameters")
    main_net: int = stated(40_000_000, "3", "ResNet-101 has about {} parameters")
    ungrouped_per_label: int = stated(400_000, "3", "conv4 without groups, on C channels, would have {} C parameters")


@dataclass(frozen=True)
class Rates:
    """The learning rates of a step: the first one, divided by 10 after each of these numbers of epochs."""

    first: float
    epochs: tuple[int, ...]


@dataclass(frozen=True)
class Recipe:
    """A training of one's own for a data set that is not the paper's, on one processor; `reason` says why."""

    reason: str
    command: str  # that writes the files, with {network}
    batch: int  # images per update
    test_batch: int
    whole: Rates  # of step 1, from fillers
    parts: Rates  # of the steps that train new parts alone
    finetune: Rates  # of a last step, which trains the whole net


@dataclass(frozen=True)
class DataSet:
    """A data set of section 4: its labels, and its images as the paper counts them."""

    key: str  # in file names of the release, and of the --dataset option
    name: str
    classes: int
    training_images: int
    test_images: int
    labels_per_image: float | None = None
    released: tuple[int, int] | None = None  # training and test images of the release, where they are fewer
    note: str = ""  # what training has to know about it
    recipe: Recipe | None = None  # none: the paper's training


DATASETS = {
    each.key: each
    for each in (
        DataSet("nus_wide", "NUS-WIDE", 81, 161_789, 107_859, 2.4, released=(119_986, 80_283)),
        # 2.9 in the paragraph on the data set; where it is compared with NUS-WIDE, 3.5.
        DataSet("coco", "MS-COCO", 80, 82_783, 40_504, 2.9),
        DataSet(
            "wider_att",
            "WIDER-Attribute",
            14,
            28_340,
            29_177,
            note="its images are crops of persons; labels that are unspecified count as negative in training",
        ),
    )
}
