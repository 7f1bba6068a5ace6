"""A net on a few images in any way: other preparations, other blobs, other input sizes, the float64 reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from port.graph.build import load_graph
from port.graph.reference import run_reference
from port.module import CaffeNet
from port.net import load_net, param_arrays, run_blobs
from port.scoring import image_input, score_output
from prototxt_gen.base.errors import CaffeError

from ..parity.compare import compare
from ..parity.net import TOLERANCE
from .agreement import six_decimals
from .preparations import AS_PUBLISHED

Prepare = Callable[[Path, int, int], NDArray[np.float32]]
BLOCK = 8  # images at once
FEW = 4  # images of which every blob is looked at


class Sampler:
    """A net and a few images; scores are (images, classes), rounded to 6 decimals as the authors' files are."""

    def __init__(self, net: CaffeNet, prototxt: Path, caffemodel: Path, images: Sequence[Path], device: str | None):
        self.net, self.prototxt, self.caffemodel, self.images = net, prototxt, caffemodel, list(images)
        self.input, *size = image_input(net)
        self.size: tuple[int, int] = (size[0], size[1])
        self.output, self.classes = score_output(net)
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")

    def scores(self, prepare: Prepare = AS_PUBLISHED, net: CaffeNet | None = None) -> NDArray[np.float64]:
        """The scores of the images, prepared in one way."""
        net = (net or self.net).to(self.device).eval()
        _, height, width = image_input(net)
        exact = torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False)
        blocks = []
        with torch.inference_mode(), exact:
            for start in range(0, len(self.images), BLOCK):
                some = self.images[start : start + BLOCK]
                block = torch.from_numpy(np.stack([prepare(path, height, width) for path in some]))
                result = net(**{self.input: block.to(self.device)})[self.output]
                blocks.append(result.reshape(len(some), -1).cpu().numpy())
        return six_decimals(np.concatenate(blocks))

    def scores_at(self, size: int) -> NDArray[np.float64] | None:
        """The scores of the same weights with another input size; None where the net does not allow it."""
        try:
            net = load_net(self.prototxt, self.caffemodel, input_shapes={self.input: (1, 3, size, size)})
            return self.scores(net=net)
        except CaffeError:
            return None

    def other_scores(self) -> dict[str, NDArray[np.float64]]:
        """Every other blob with as many values per image as there are classes, of all images.

        A first image tells which blobs those are.
        """
        blobs = {name: array for name, array in self._blobs(self.images[:1]).items() if name != self.output}
        names = [name for name, array in blobs.items() if prod(array.shape[1:]) == self.classes]
        if not names:
            return {}
        found: dict[str, list[Any]] = {name: [] for name in names}
        for start in range(0, len(self.images), FEW):
            some = self.images[start : start + FEW]
            blobs = self._blobs(some)
            for name in names:
                found[name].append(blobs[name].reshape(len(some), -1))
        return {name: six_decimals(np.concatenate(arrays)) for name, arrays in found.items()}

    def _blobs(self, images: Sequence[Path]) -> dict[str, NDArray[Any]]:
        return run_blobs(self.net.to("cpu").eval(), {self.input: self._prepared(images)})

    def _prepared(self, images: Sequence[Path]) -> NDArray[np.float32]:
        return np.stack([AS_PUBLISHED(path, *self.size) for path in images])

    def reference_says(self) -> tuple[bool, str]:
        """Whether the float64 reference of Caffe's rules computes the same scores of the first image; in words."""
        graph = load_graph(self.prototxt)
        block = self._prepared(self.images[:1])
        values = run_reference(graph, param_arrays(self.net), {self.input: block})
        expected = values[graph.blobs()[self.output].name].reshape(1, -1)
        ours = run_blobs(self.net.to("cpu"), {self.input: block})[self.output].reshape(1, -1)
        found = compare(ours, expected, 10 * TOLERANCE, "scores")  # a blob at the end of the net, not any blob
        verdict = "computes the same" if found else "does NOT compute the same"
        return bool(found), f"the float64 reference of Caffe's rules {verdict} for {self.images[0].name}: {found}"
