"""Data layers of the train_val nets: images and labels from two LMDBs, and the augmentation (3.4)."""

from __future__ import annotations

from typing import Any

from ..builder import NetBuilder
from ..paper import Augmentation
from .config import NetConfig
from .schedule import Schedule

FOLDER = "datasets"  # below the folder in which Caffe is started
SPLITS = {"TRAIN": "train", "TEST": "test"}


def data_layers(net: NetBuilder, config: NetConfig) -> tuple[str, str]:
    """Image and label layers for both phases: blobs data, N x 3 x 224 x 224, and label, N x C x 1 x 1."""
    schedule = Schedule.of(config)
    batches = {"TRAIN": schedule.batch, "TEST": schedule.test_batch}
    image = label = ""
    for phase, batch in batches.items():
        net.section(f"Data, {phase}: images and labels from two databases in one order", part="data")
        common: dict[str, Any] = {"include": {"phase": phase}, "batch_size": batch, "backend": "LMDB"}
        transform = transformation(config, phase)
        image = net.Data("data", source=database(config, phase, "image"), transform_param=transform, **common)
        label = net.Data("label", source=database(config, phase, "label"), **common)
    return image, label


def database(config: NetConfig, phase: str, content: str) -> str:
    """The LMDB of a data set's images or labels: datasets/coco/coco_train_image_lmdb."""
    key = config.dataset.key
    return f"{FOLDER}/{key}/{key}_{SPLITS[phase]}_{content}_lmdb"


def databases(config: NetConfig) -> list[str]:
    """All LMDBs that training reads."""
    return [database(config, phase, content) for phase in SPLITS for content in ("image", "label")]


def transformation(config: NetConfig, phase: str) -> dict[str, Any]:
    """What happens to an image of the database; for TEST the centre, since Caffe would mirror there as well."""
    numbers = Augmentation()
    fields: dict[str, Any] = {"crop_size": numbers.crop_resized, "mean_value": list(numbers.mean)}
    if phase == "TRAIN":
        fields["mirror"] = True
        if config.dialect == "srn":
            ratios = [size / numbers.resized for size in numbers.crop_sizes]
            # max_distort is a distance in the list: all pairs of width and height
            fields |= {"fix_crop": True, "multi_scale": True, "scale_ratios": ratios, "max_distort": len(ratios) - 1}
    return fields
