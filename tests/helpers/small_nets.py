"""Small nets as text, for tests: one line a layer, so that line numbers are easy to say."""

from __future__ import annotations

import atexit
import os
from functools import cache
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

from prototxt_gen import write_net


def inputs(**shapes: tuple[int, ...]) -> str:
    """Net-level inputs, two lines each (both dialects read them)."""
    return "".join(
        f'input: "{blob}"\ninput_shape {{ {" ".join(f"dim: {d}" for d in shape)} }}\n' for blob, shape in shapes.items()
    )


def layer(name: str, kind: str, bottoms: str = "", tops: str = "", fields: str = "") -> str:
    """One layer on one line; `bottoms` and `tops` are separated by spaces."""
    ends = [f'bottom: "{blob}"' for blob in bottoms.split()] + [f'top: "{blob}"' for blob in tops.split()]
    return f'layer {{ name: "{name}" type: "{kind}" {" ".join(ends)} {fields} }}\n'


def conv(name: str, bottoms: str, tops: str, num_output: int, kernel: int = 1, fields: str = "") -> str:
    """A convolution with gaussian weights and biases."""
    filler = 'weight_filler { type: "gaussian" std: 0.4 } bias_filler { type: "gaussian" std: 0.3 }'
    return layer(
        name,
        "Convolution",
        bottoms,
        tops,
        f"convolution_param {{ num_output: {num_output} kernel_size: {kernel} {filler} }} {fields}",
    )


def fully(name: str, bottoms: str, tops: str, num_output: int, fields: str = "") -> str:
    """A fully connected layer with gaussian weights and biases."""
    filler = 'weight_filler { type: "gaussian" std: 0.4 } bias_filler { type: "gaussian" std: 0.3 }'
    return layer(
        name,
        "InnerProduct",
        bottoms,
        tops,
        f"inner_product_param {{ num_output: {num_output} {filler} }} {fields}",
    )


def made_once(name: str) -> Path:
    """A folder for what many tests read, removed when the tests end."""
    folder, owner = Path(mkdtemp(prefix=f"{name}-")), os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # not when a forked child ends
            rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


@cache
def miniature(dialect: str) -> Path:
    """The paper's ResNet-SRN for MS-COCO at an eighth of its width, with weights seed:7 beside it; made once."""
    return write_net(
        made_once("miniature"), "ResNet-SRN", "coco", dialect=dialect, width_divisor=8, weights="seed:7"
    ).path
