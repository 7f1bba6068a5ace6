"""Small nets of one layer, for the tests of the conversion between the dialects."""

from __future__ import annotations

from port.convert import convert_net
from prototxt_gen.schema import parse, parse_prototxt, to_text

OTHER = {"srn": "bvlc", "bvlc": "srn"}
SRN = 'name: "n" input: "data" input_shape { dim: 2 dim: 3 dim: 6 dim: 5 }'
BVLC = """name: "n" layer { name: "data" type: "Input" top: "data"
          input_param { shape { dim: 2 dim: 3 dim: 6 dim: 5 } } }"""


def layer(kind, fields="", bottom="data", top="y", name="l"):
    bottoms = " ".join(f'bottom: "{b}"' for b in bottom.split())
    tops = " ".join(f'top: "{t}"' for t in top.split())
    return f'layer {{ name: "{name}" type: "{kind}" {bottoms} {tops} {fields} }}'


def converted(text, dialect, **options):
    """The layers behind the input, in the other dialect."""
    head = SRN if dialect == "srn" else BVLC
    net = parse_prototxt(head + text, dialect=dialect, file="n.prototxt")
    return convert_net(net, OTHER[dialect], **options)


def shown(conversion):
    """The new net's text behind its input."""
    message = type(conversion.parsed.message)()
    message.layer.extend(entry for entry in conversion.parsed.message.layer if entry.type != "Input")
    return " ".join(to_text(message).split())


def text_of(fields, dialect="bvlc", kind="NetParameter"):
    return " ".join(to_text(parse(fields, kind, dialect)).split())


def bn(fields="", bottom="data", top="y", name="bn", more=""):
    return layer("BN", f"bn_param {{ {fields} }} {more}", bottom, top, name)


def batch_norm(fields="", bottom="data", top="y", name="bn", more=""):
    return layer("BatchNorm", f"batch_norm_param {{ {fields} }} {more}", bottom, top, name)


def scale(fields="bias_term: true", bottom="y", top="y", name="scale", more=""):
    return layer("Scale", f"scale_param {{ {fields} }} {more}", bottom, top, name)
