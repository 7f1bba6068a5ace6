"""A layer type that neither Caffe has: Squash presses values below a limit, which is learned."""

from typing import Any

import numpy as np
import torch

import port

# The fields of its message. 9001 is the number of squash_param in the .proto of the Caffe that had this layer.
port.extend_schema(
    "squash_param",
    9001,
    {
        "form": (["TANH", "RATIO"], "TANH"),
        "per_channel": ("bool", True),
        "limit_filler": ("FillerParameter", None),
    },
)


@port.register
class Squash(port.UserLayer):
    """limit * tanh(x / limit), or x / (1 + |x| / limit); one limit, or one a channel."""

    type = "Squash"
    param = ("squash_param",)
    family = "activation"  # its colour in drawings
    hangs = True  # drawn below the layer whose blob it changes

    form: str = "TANH"
    per_channel: bool = True
    limit_filler: Any = 1.0

    def top_shapes(self, x):
        if len(x) < 2:
            raise port.Misfit(f"an input with {len(x)} axes", "2 or more: channels are axis 1", "bottom")
        return (x,)

    def blobs(self, x):
        return [port.BlobSpec("limit", (x[1] if self.per_channel else 1,), self.limit_filler)]

    def reference(self, blobs, x):
        limit = blobs[0].reshape(1, -1, *[1] * (x.ndim - 2))
        return (x / (1 + np.abs(x) / limit) if self.form == "RATIO" else limit * np.tanh(x / limit),)

    def forward(self, module, x):
        limit = module.blobs[0].reshape(1, -1, *[1] * (x.dim() - 2))
        return (x / (1 + x.abs() / limit) if self.form == "RATIO" else limit * torch.tanh(x / limit),)

    def onnx(self, graph, x):
        limit = graph.blob(0, (1, -1, *[1] * (len(graph.shape(x)) - 2)))
        if self.form == "RATIO":
            share = graph.op("Div", graph.op("Abs", x), limit)
            return (graph.op("Div", x, graph.op("Add", share, graph.constant(1.0))),)
        return (graph.op("Mul", limit, graph.op("Tanh", graph.op("Div", x, limit))),)
