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


@dataclass(frozen=True)
class Fact:
    """One number in words, and its section in the paper or else the reason it was chosen."""

    text: str
    section: str
    reason: str

    def __str__(self) -> str:
        return f"{self.section}: {self.text}" if self.section else f"{self.text}: {self.reason}"


def facts(numbers: Any) -> Iterator[Fact]:
    """The numbers of one of this module's dataclasses as `Fact`s, in order."""
    for each in fields(numbers):
        about = each.metadata
        if about:
            value = getattr(numbers, each.name)
            words = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            yield Fact(about["text"].format(words), about.get("section", ""), about.get("reason", ""))


@dataclass(frozen=True)
class MainNet:
    """ResNet-101 and its classifier, f_cnn and f_cls (3.1). Sizes are in pixels and channels."""

    image: int = stated(224, "3.4", "input images of {0}x{0}")
    units: tuple[int, ...] = stated(
        (3, 4, 23, 3), "3.1", "the structure of ResNet-101: {} residual units in the four stages"
    )
    outputs: tuple[int, ...] = stated(
        (256, 512, 1024, 2048), "3.1", "{} channels after the stages; pre-activation residual units"
    )
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
    stride_layer: str = reconstructed(
        "3x3", "stride 2 on the {} convolution (branch2b)", "as in the Torch model the authors converted"
    )
    eps: float = reconstructed(1e-5, "normalisation eps {}, no bias in convolutions", "as in the same Torch model")
    fillers: tuple[str, str] = reconstructed(
        ("msra", "xavier"),
        "fillers {} for convolutions and fully connected layers",
        "the paper starts from ImageNet weights and gives none",
    )

    @property
    def tap_channels(self) -> int:
        """Channels of X: the output of the third stage."""
        return self.outputs[2]


# What the paper leaves open about the main net and is no number.
STRUCTURE = (
    Fact(
        "layer names",
        "",
        "as in He's published Caffe files, to which res4b22_relu, the one the paper uses, belongs",
    ),
    Fact(
        "pre-activation",
        "",
        "the first unit has none, the first unit of each later stage shares one with its shortcut, a shortcut"
        " without convolution takes the sum itself: as in the same Torch model",
    ),
)


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
class DataSet:
    """A data set of section 4: its labels, and its images as the paper counts them."""

    key: str  # in file names of the release, and of the --dataset option
    name: str
    classes: int
    training_images: int
    test_images: int
    labels_per_image: float | None


DATASETS = {
    each.key: each
    for each in (
        DataSet("nus_wide", "NUS-WIDE", 81, 161_789, 107_859, 2.4),
        # 2.9 in the paragraph on the data set, 3.5 where it is compared with NUS-WIDE.
        DataSet("coco", "MS-COCO", 80, 82_783, 40_504, 2.9),
        DataSet("wider_att", "WIDER-Attribute", 14, 28_340, 29_177, None),
    )
}
