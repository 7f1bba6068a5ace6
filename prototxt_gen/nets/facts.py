"""What each profile knows about the main net and the head beyond the paper's numbers, and from where."""

from __future__ import annotations

from ..paper import Fact

TORCH = "as in the Torch model the authors converted"
HE = "as in He's published Caffe files"
PORT = "as in an independent port of the released net"
COUNTED = "counted from that model's order, which gives the number 304 that is known"

_PREACTIVATION = (
    Fact("pre-activation residual units", section="3.1"),
    Fact("stride 2 on the 3x3 convolutions", reason=TORCH),
    Fact(
        "the first unit has no pre-activation, the first unit of each later stage shares one with its shortcut, a"
        " shortcut without convolution takes the sum itself",
        reason=TORCH,
    ),
)

PAPER = (
    *_PREACTIVATION,
    Fact("layer names", reason=f"{HE}, to which res4b22_relu, the one the paper uses, belongs"),
)

POSTACT = (
    Fact("residual units of 2015: normalisation behind each convolution, ReLU behind the sum", source=HE),
    Fact("names and order of the layers, stride 2 on the 1x1 convolutions, no padding in pool1", source=HE),
    Fact("conv1 without bias, unlike in his ResNet-50", source=HE),
    Fact(
        "the ReLU behind a sum has a blob of its own, in his files it works in place",
        reason="so that X is the blob res4b22_relu here as well; weights are loaded by layer name, which is his",
    ),
)

RELEASED = (
    *_PREACTIVATION,
    Fact("the main net is a pre-activation ResNet-101, trained in Torch and converted", source="stated by the authors"),
    Fact("layer names caffe.<word>_<n>, with one counter from 0 over the main net", source="its discussions"),
    Fact("which number each layer has", reason=COUNTED),
    Fact("the words in the names (SpatialConvolution, BN, Eltwise)", reason="they are the Torch converter's"),
    Fact("ReLU in place: the blob keeps the name of the layer before", reason="the Torch converter does so"),
)

RELEASED_HEAD = (
    Fact("X is caffe.Eltwise_304, and att.ReLU_2 behind the head's own normalisation", source="stated by the authors"),
    Fact("y_cls and y_sr are averaged in the test net only", source="stated by the authors"),
    Fact("layers att.Conv_3 to att.Conv_19, att.att_Conv_1 to 3, att.att_Reshape_6 = A", source="its discussions"),
    Fact("comb.comb_Eltwise_0 is U", source="a question in its discussions"),
    Fact("the head's other names", reason="counted on in the same way"),
    Fact("BN and ReLU behind the head's convolutions, except those that end in C maps", reason=PORT),
    Fact("the head's ReLUs have blobs of their own", reason="so that att.ReLU_2, as the authors call it, is a blob"),
)
