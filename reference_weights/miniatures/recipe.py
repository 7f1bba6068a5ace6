"""What the miniatures are and how they are trained, in the generator's words."""

from __future__ import annotations

from typing import Any

from prototxt_gen.nets import DATASETS, add_dataset
from prototxt_gen.nets import NETWORKS as ALL_NETWORKS
from prototxt_gen.paper import DataSet, Rates, Recipe

from ..shapes import CLASSES

DATASET = "shapes"
WIDTH_DIVISOR = 8
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
        batch=24,
        test_batch=40,
        whole=Rates(0.02, (5, 1, 1)),
        parts=Rates(0.02, (1, 1)),
        finetune=Rates(1e-3, (1, 1, 1)),
    ),
)

if DATASET not in DATASETS:
    add_dataset(SHAPES)

NETWORKS = tuple(ALL_NETWORKS)


def options() -> dict[str, Any]:
    """The options of `prototxt_gen.configure` that make a miniature."""
    return {"dataset": DATASET, "dialect": DIALECT, "width_divisor": WIDTH_DIVISOR, "gpus": 1}
