"""Random nets: a few layers on what there is, in place and side by side, with sharing, losses, weights and stages."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

Shape = tuple[int, ...]

# Element by element: what stands in the layer's own message; None where there is none.
ELEMENTWISE = {
    "both": {
        "ReLU": ["", "negative_slope: 0.1"],
        "Sigmoid": [""],
        "TanH": [""],
        "AbsVal": [""],
        "BNLL": [""],
        "Power": ["scale: 0.5", "power: 2 shift: 0.5", "scale: -1 shift: 2"],
        "Exp": ["scale: 0.3", "base: 2 scale: 0.5 shift: -1"],
        "PReLU": ["", "channel_shared: true"],
        "Scale": ["bias_term: true", "axis: 0", "num_axes: 0 bias_term: true"],
        "Bias": ["", "num_axes: -1"],
        "LRN": ["local_size: 3", "local_size: 5 alpha: 0.5"],
        "MVN": ["", "across_channels: true"],
        "Softmax": ["", "axis: -1"],
        "Dropout": [""],
    },
    "bvlc": {
        "ELU": ["", "alpha: 0.3"],
        "Clip": ["min: -0.7 max: 0.6"],
        "Swish": [""],
        "BatchNorm": ["use_global_stats: true", "use_global_stats: false"],
    },
    "srn": {"BN": ["", "frozen: true"]},
}
MESSAGES = {
    "PReLU": "prelu",
    "ReLU": "relu",
    "ELU": "elu",
    "LRN": "lrn",
    "MVN": "mvn",
    "BN": "bn",
    "BatchNorm": "batch_norm",
}
IMAGES_ONLY = {"LRN", "MVN", "BN", "BatchNorm"}
FILLED = 'weight_filler { type: "gaussian" std: 0.4 } bias_filler { type: "gaussian" std: 0.2 }'


@dataclass
class Net:
    """A net as it grows: blobs that can be read, with shapes, and how often each was read."""

    rng: random.Random
    dialect: str
    blobs: dict[str, Shape] = field(default_factory=dict)
    read: dict[str, int] = field(default_factory=dict)
    weighted: set[str] = field(default_factory=set)
    lines: list[str] = field(default_factory=list)
    count: int = 0

    def pick(self, *ranks: int) -> str | None:
        """A blob of one of some ranks."""
        names = [name for name, shape in self.blobs.items() if len(shape) in ranks]
        return self.rng.choice(names) if names else None

    def layer(self, kind: str, bottoms: list[str], tops: dict[str, Shape], body: str = "") -> None:
        """Write a layer; now and then with what any layer may have."""
        names = "".join(f' bottom: "{b}"' for b in bottoms) + "".join(f' top: "{t}"' for t in tops)
        if self.rng.random() < 0.06:
            body += " propagate_down: false" * len(bottoms)
        if self.rng.random() < 0.08:
            body += self.rng.choice([' include { stage: "on" }', ' exclude { stage: "off" }'])
        self.lines.append(f'layer {{ name: "l{self.count}" type: "{kind}"{names} {body} }}')
        self.count += 1
        for bottom in bottoms:
            self.read[bottom] = self.read.get(bottom, 0) + 1
        for top, shape in tops.items():
            self.blobs[top], self.read[top] = shape, 0

    def fresh(self) -> str:
        return f"b{self.count}"


def elementwise(net: Net) -> None:
    kinds = ELEMENTWISE["both"] | ELEMENTWISE[net.dialect]
    kind = net.rng.choice(list(kinds))
    x = net.pick(4) if kind in IMAGES_ONLY else net.pick(2, 3, 4)
    if x is None:
        return
    own = net.rng.choice(kinds[kind])
    body = f"{MESSAGES.get(kind, kind.lower())}_param {{ {own} }}" if own else ""
    in_place = net.rng.random() < 0.5 and not net.read.get(x) and x not in net.weighted
    net.layer(kind, [x], {x if in_place else net.fresh(): net.blobs[x]}, body)


def convolution(net: Net) -> None:
    if x := net.pick(4):
        n, _, h, w = net.blobs[x]
        kernel = net.rng.choice([1, 3])
        if h >= kernel and w >= kernel:
            out = net.rng.choice([2, 3, 4])
            shared = ' param { name: "w" }' if net.rng.random() < 0.15 else ""
            body = (
                f"convolution_param {{ num_output: {out} kernel_size: {kernel} pad: {kernel // 2} {FILLED} }}{shared}"
            )
            net.layer("Convolution", [x], {net.fresh(): (n, out, h, w)}, body)


def pooling(net: Net) -> None:
    if (x := net.pick(4)) and min(net.blobs[x][2:]) > 2:
        n, c, h, w = net.blobs[x]
        body = f"pooling_param {{ pool: {net.rng.choice(['MAX', 'AVE'])} kernel_size: 2 stride: 1 }}"
        net.layer("Pooling", [x], {net.fresh(): (n, c, h - 1, w - 1)}, body)


def fully(net: Net) -> None:
    if x := net.pick(2, 3, 4):
        out = net.rng.choice([2, 3, 5])
        shared = ' param { name: "f" share_mode: STRICT }' if net.rng.random() < 0.15 else ""
        body = f"inner_product_param {{ num_output: {out} {FILLED} }}{shared}"
        net.layer("InnerProduct", [x], {net.fresh(): (net.blobs[x][0], out)}, body)


def sharing(net: Net) -> None:
    """Layers whose top lies in the memory of their bottom."""
    x = net.pick(2, 3, 4)
    if x is None:
        return
    shape, kind = net.blobs[x], net.rng.choice(["Flatten", "Reshape", "Split", "Concat", "Slice"])
    flat = (shape[0], _product(shape[1:]))
    if kind == "Flatten":
        net.layer(kind, [x], {net.fresh(): flat})
    elif kind == "Reshape":
        net.layer(kind, [x], {net.fresh(): flat}, "reshape_param { shape { dim: 0 dim: -1 } }")
    elif kind == "Split":
        net.layer(kind, [x], {net.fresh(): shape, f"{net.fresh()}s": shape})
    elif kind == "Concat":
        net.layer(kind, [x], {net.fresh(): shape})
    elif shape[1] > 1:
        parts = {net.fresh(): (shape[0], 1, *shape[2:]), f"{net.fresh()}s": (shape[0], shape[1] - 1, *shape[2:])}
        net.layer(kind, [x], parts, "slice_param { slice_point: 1 }")


def joining(net: Net) -> None:
    if x := net.pick(2, 3, 4):
        same = [name for name, shape in net.blobs.items() if shape == net.blobs[x] and name != x]
        if same:
            y, shape = net.rng.choice(same), net.blobs[x]
            if net.rng.random() < 0.3:
                net.layer("Concat", [x, y], {net.fresh(): (shape[0], 2 * shape[1], *shape[2:])})
            else:
                operation = net.rng.choice(["SUM", "PROD", "MAX"])
                net.layer("Eltwise", [x, y], {net.fresh(): shape}, f"eltwise_param {{ operation: {operation} }}")


def loss(net: Net) -> None:
    if x := net.pick(2, 4):
        same = [name for name, shape in net.blobs.items() if shape == net.blobs[x] and name != x]
        if same:
            weight = net.rng.choice(["", "loss_weight: 0.5", "loss_weight: 0", "loss_weight: -2"])
            top = net.fresh()
            net.layer("EuclideanLoss", [x, net.rng.choice(same)], {top: ()}, weight)
            net.weighted.add(top)
            if net.rng.random() < 0.3:
                net.layer("Power", [top], {net.fresh(): ()}, "power_param { scale: 3 }")


def weighted(net: Net) -> None:
    """A blob that is no loss and counts all the same."""
    if x := net.pick(2, 4):
        top = net.fresh()
        net.layer("Power", [x], {top: net.blobs[x]}, "power_param { scale: 0.25 } loss_weight: 0.1")
        net.weighted.add(top)


STEPS = [elementwise] * 6 + [convolution, pooling, fully, sharing, sharing, joining, joining, loss, weighted]


def random_net(seed: int) -> tuple[str, str, dict]:
    """The prototxt of a net, its dialect, and the options to load it with."""
    rng = random.Random(seed)
    net = Net(rng, rng.choice(["bvlc", "srn"]))
    shape = (rng.randint(1, 3), rng.randint(2, 4), rng.randint(3, 6), rng.randint(3, 7))
    head = ['name: "random"'] + (["force_backward: true"] if rng.random() < 0.5 else [])
    for name, extents in (("in0", shape), ("in1", shape), ("in2", (shape[0], 5))):
        dims = " ".join(f"dim: {extent}" for extent in extents)
        head.append(f'input: "{name}" input_shape {{ {dims} }}')
        net.blobs[name] = extents
    for _ in range(rng.randint(2, 8)):
        rng.choice(STEPS)(net)
    options = {"dialect": net.dialect, "phase": rng.choice(["TRAIN", "TEST"])}
    options["stages"] = rng.choice([(), ("on",), ("on", "off")])
    return "\n".join([*head, *net.lines, ""]), net.dialect, options


def _product(numbers) -> int:
    result = 1
    for number in numbers:
        result *= number
    return result
