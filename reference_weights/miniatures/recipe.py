"""What the miniatures are and how they are trained, in the generator's words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from prototxt_gen.builder import NetBuilder
from prototxt_gen.nets import NETWORKS as ALL_NETWORKS
from prototxt_gen.nets import PROFILES, NetConfig
from prototxt_gen.nets.verbs import conv, fully_connected, normalize
from prototxt_gen.paper import DataSet, Fact, Rates, Recipe

from ..shapes import CLASSES

DATASET = "shapes"
WIDTH_DIVISOR = 8
PROFILE = "normalized"
DIALECT = "srn"  # the fork's crops are the paper's
TRAIN, TEST = 12_000, 2_000  # scenes
SCENES_SEED = 0

SHAPES = DataSet(
    DATASET,
    "the synthetic scenes",
    len(CLASSES),
    TRAIN,
    TEST,
    note="its test images are 224x224 already, and whole: python -m reference_weights shapes draws both databases",
    recipe=Recipe(
        reason=(
            "there are no ImageNet weights of an eighth of the width, so step 1 starts from fillers, with a larger"
            " rate and for longer than the other steps; the last step has the paper's rates; the batch is what each"
            " of the paper's GPUs took; as many epochs as half an hour of two cores allows"
        ),
        command="python -m reference_weights miniature --network {network} --output DIR",
        batch=24,
        test_batch=40,
        whole=Rates(0.02, (5, 1, 1)),
        parts=Rates(0.02, (1, 1)),
        finetune=Rates(1e-3, (1, 1, 1)),
    ),
)


def regularization(net: NetBuilder, config: NetConfig, U: str) -> str:
    """f_sr (3.3) with normalisation behind its convolutions, as the release has it: U to C logits, y_sr."""
    head, x = config.head, U
    for name, channels, kernel, group in (
        ("sr_conv2", head.conv2, 1, 1),
        ("sr_conv3", head.conv3, 1, 1),
        ("sr_conv4", head.conv4, head.conv4_size, head.conv3),
    ):
        x = conv(net, name, x, channels, kernel, group=group, bias=False)
        x = normalize(net, f"bn_{name}", f"scale_{name}", x, in_place=True)
        x = net.ReLU(f"{name}_relu", x, in_place=True)
    return fully_connected(net, "sr_fc", x, config.classes, top="y_sr")


NORMALIZED = replace(
    PROFILES["paper"],
    name=PROFILE,
    about="the text of the paper, and of the release the normalisation in the regularization (numbers in front of a"
    " fact are its sections)",
    regularization=regularization,
    head_facts=(
        Fact(
            "normalisation behind conv2, conv3 and conv4",
            source="an independent port of the released net; from fillers, the text's head does not learn without it",
        ),
    ),
)

NETWORKS = tuple(ALL_NETWORKS)


def options(profile: str = PROFILE) -> dict[str, Any]:
    """The options of `prototxt_gen.configure` that make a miniature; another profile is one of the generator's."""
    chosen = NORMALIZED if profile == PROFILE else profile
    return {"dataset": SHAPES, "profile": chosen, "dialect": DIALECT, "width_divisor": WIDTH_DIVISOR, "gpus": 1}
