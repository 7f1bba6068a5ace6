"""Nets of one dialect in the other, exact in phase TEST: `convert_net` and `convert_weights`.

    conversion = convert_net("srn.prototxt", "bvlc")
    print(conversion.text())
    convert_weights(conversion, "srn.caffemodel", "bvlc.caffemodel")

The fork's BN becomes BatchNorm and Scale and the reverse, input fields become an Input layer and the
reverse. What the target dialect cannot express is refused, all of it at once. The notes say what differs
in training.
"""

from .net import Conversion, convert_net
from .weights import convert_weights

__all__ = ["Conversion", "convert_net", "convert_weights"]
