"""Data layers, images and lists for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from port.data import DataSource, image_datum, new_database, open_data
from prototxt_gen.schema.text import parse

GOLDEN_DATA = Path(__file__).parents[1] / "golden" / "data"


def data_layer(kind: str, fields: str = "", dialect: str = "bvlc", tops: str = "data label") -> Any:
    """The LayerParameter of a data layer named "d"."""
    named = " ".join(f'top: "{top}"' for top in tops.split())
    return parse(f'layer {{ name: "d" type: "{kind}" {named} {fields} }}', dialect=dialect).layer[0]


def transform_param(fields: str, dialect: str = "srn") -> Any:
    """A TransformationParameter."""
    return data_layer("Data", f"transform_param {{ {fields} }}", dialect).transform_param


def write_images(folder: Path, count: int, size: tuple[int, int] = (9, 13)) -> list[np.ndarray]:
    """`img0.png`... in a folder, and `list.txt` with the labels 10, 11, ...; returns the pixels (BGR)."""
    rng = np.random.default_rng(11)
    folder.mkdir(parents=True, exist_ok=True)
    images = [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for _ in range(count)]
    for i, image in enumerate(images):
        cv2.imwrite(str(folder / f"img{i}.png"), image)
    (folder / "list.txt").write_text("".join(f"img{i}.png {10 + i}\n" for i in range(count)))
    return images


def take(source: DataSource, count: int) -> list[dict[str, np.ndarray]]:
    """The next batches."""
    batches = source.batches()
    taken = [next(batches) for _ in range(count)]
    batches.close()  # type: ignore[attr-defined]
    return taken


def labels(source: DataSource, count: int) -> list[list[int]]:
    """The labels of the next batches."""
    return [batch["label"].reshape(-1).astype(int).tolist() for batch in take(source, count)]


def write_data(folder: Path) -> Path:
    """A folder with 7 images of 9x13, labels 10 to 16: `list.txt` and the database `db`."""
    pixels = write_images(folder, 7)
    with new_database(folder / "db") as writer:
        writer.put((b"%08d_img%d.png" % (i, i), image_datum(image, 10 + i)) for i, image in enumerate(pixels))
    return folder


def image_data(fields: str, dialect: str = "bvlc", transform: str = "") -> Any:
    """ImageData over `list.txt`."""
    transform = transform and f"transform_param {{ {transform} }}"
    return data_layer("ImageData", f'image_data_param {{ source: "list.txt" {fields} }} {transform}', dialect)


def database(
    fields: str, dialect: str = "bvlc", transform: str = "", tops: str = "data label", source: str = "db"
) -> Any:
    """Data over `db`."""
    transform = transform and f"transform_param {{ {transform} }}"
    return data_layer("Data", f'data_param {{ source: "{source}" backend: LMDB {fields} }} {transform}', dialect, tops)


def of_ranks(layer, phase: str, dialect: str, root: Path, world: int, count: int) -> list[list[list[int]]]:
    """For each rank, the labels of its first batches."""
    return [labels(open_data(layer, phase, dialect, root=root, rank=rank, world=world), count) for rank in range(world)]
