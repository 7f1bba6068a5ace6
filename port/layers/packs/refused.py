"""Layer types of forks that are known and cannot be run here, each refused by name with what to do instead."""

from __future__ import annotations

from typing import ClassVar

from ..base import Layer, Misfit, register


class _Refused(Layer):
    """A type whose every use is refused."""

    kind = "host-only"
    bottom_count = (0, None)
    top_count = (0, None)
    why: ClassVar[tuple[str, str]] = ("", "")  # what it does, and the way out

    @classmethod
    def read(cls, message):
        return {}

    def refusal(self) -> Misfit:
        return Misfit(f"{self.type} {self.why[0]}", field="type", fix=self.why[1])

    def top_shapes(self, *bottoms):
        raise self.refusal()

    def reference(self, blobs, *bottoms):
        raise self.refusal()

    def forward(self, module, *bottoms):
        raise self.refusal()

    def onnx(self, graph, *bottoms):
        raise self.refusal()


@register
class DetectNetTransformation(_Refused):
    """Makes DetectNet's training data (NVIDIA's detectnet_transform_layer)."""

    type = "DetectNetTransformation"
    pack = "nvidia"
    why = (
        "makes training data: it cuts and colours images at random and draws their boxes as maps",
        "leave it out and make its tops inputs of the net, or use the net for deployment, which has none",
    )


@register
class TRT(_Refused):
    """Runs a net in TensorRT (NVIDIA's trt_layer)."""

    type = "TRT"
    pack = "nvidia"
    why = (
        "hands its bottom to TensorRT, with the net and weights that its `deploy` and `model` name",
        "load those two instead",
    )


@register
class AssistedExcitation(_Refused):
    """Raises activations in labelled boxes while training (MobileNet-YOLO's assisted_excitation_layer)."""

    type = "AssistedExcitation"
    pack = "yolo"
    why = (
        "follows the solver's iteration: it raises activations in labelled boxes by cos(iteration / max_iter * pi / 2)",
        "leave it out: at the end of training it adds nothing",
    )


@register
class DenseCRF(_Refused):
    """A fully connected conditional random field over every image (DeepLab's densecrf_layer)."""

    type = "DenseCRF"
    pack = "deeplab"
    why = (
        "filters in five dimensions by a lattice of another library, whose sums are no formula of the scores",
        "leave it out, take the scores below it, and refine them with a CRF of your own, as DeepLab's authors do",
    )


@register
class AdaptiveBiasChannel(_Refused):
    """Raises an item's labels until each has its share of cells (DeepLab's adaptive_bias_channel_layer)."""

    type = "AdaptiveBiasChannel"
    pack = "deeplab"
    why = (
        "goes through an item's labels in an order drawn at random",
        "leave it out of what is deployed: it serves training from labels of whole images",
    )


@register
class LRNRistretto(_Refused):
    """LRN in small floating-point numbers (Ristretto's lrn_ristretto_layer)."""

    type = "LRNRistretto"
    pack = "ristretto"
    why = (
        "simulates floating-point numbers of few bits, on a GPU alone",
        "the same layer with the type `LRN` computes in floats",
    )
