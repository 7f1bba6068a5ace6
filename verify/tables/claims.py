"""The paper's claims that can be computed, beside what its nets give when they are built and measured."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from port.graph.count import Measured, Size, measure
from port.graph.receptive import receptive_fields
from prototxt_gen import paper
from prototxt_gen.builder import NetBuilder
from prototxt_gen.nets import NETWORKS, PROFILES, NetConfig, build_net, configure

DIALECT = "srn"  # its BN is one layer; the counts are those of bvlc as well
HEAD = ("attention", "confidence", "regularization")


@dataclass(frozen=True)
class Finding:
    """One claim: where it stands, what it says, what each profile gives, and what follows."""

    claim: str
    section: str
    stated: str
    found: dict[str, str]  # profile -> what its net gives
    verdict: str

    def data(self) -> dict:
        """For JSON."""
        return {
            "claim": self.claim,
            "section": self.section,
            "paper": self.stated,
            "nets": self.found,
            "verdict": self.verdict,
        }


class Nets:
    """The paper's nets in every profile, built and measured once; `classes` labels."""

    def __init__(self, classes: int = paper.DATASETS["coco"].classes):
        self.classes = classes

    @cached_property
    def measured(self) -> dict[tuple[str, str], tuple[NetBuilder, Measured]]:
        """(profile, network) -> the net and its measures."""
        return {
            (profile, network): self.take(configure(network, profile=profile, dialect=DIALECT, classes=self.classes))
            for profile in PROFILES
            for network in NETWORKS
        }

    def take(self, config: NetConfig) -> tuple[NetBuilder, Measured]:
        """Build and measure one net."""
        net = build_net(config)
        return net, measure(net.to_text(), config.dialect)

    def size(self, profile: str, network: str, *parts: str) -> Size:
        """The size of a net, or of some of its parts."""
        net, measured = self.measured[profile, network]
        return measured.size(net.parts if parts else None, *parts)

    def shape(self, profile: str, blob: str, network: str = "ResNet-SRN") -> str:
        """A blob's shape without the batch."""
        return "x".join(map(str, self.measured[profile, network][1].shapes[blob][1:]))

    def alone(self, channels: int, outputs: int, kernel: int, group: int) -> int:
        """Parameters of one convolution, without its bias."""
        net = NetBuilder("convolution", DIALECT)
        x = net.input("data", (1, channels, kernel, kernel))
        net.Convolution("conv", x, num_output=outputs, kernel_size=kernel, group=group, bias_term=False)
        return measure(net.to_text(), DIALECT).size().parameters


# The blobs of the paper's symbols where they bear other names.
BLOBS = {
    "paper": {"X": "res4b22_relu", "last": "res5c_relu", "U": "U", "A": "A", "conv3": "sr_conv3", "conv4": "sr_conv4"},
    "released": {
        "X": "caffe.Eltwise_304",
        "last": "caffe.BN_336",
        "U": "comb.comb_Eltwise_0",
        "A": "att.att_Reshape_6",
        "conv3": "comb.comb_Conv_2",
        "conv4": "comb.comb_Conv_3",
    },
}
BLOBS["postact"] = BLOBS["paper"]


def audit_nets(nets: Nets) -> list[Finding]:
    """All claims about sizes, maps and receptive fields."""
    return [*_parameters(nets), *_maps(nets), *_fields(nets)]


def size_rows(nets: Nets) -> list[tuple[str, ...]]:
    """Profile, network, parameters, statistics, multiply-adds of every net: rows for a table, a title first."""
    rows: list[tuple[str, ...]] = [("profile", "network", "parameters", "of them head", "statistics", "multiply-adds")]
    for profile, network in nets.measured:
        whole = nets.size(profile, network)
        added = whole.parameters - nets.size(profile, network, "main net", "classifier").parameters
        numbers = (whole.parameters, added, whole.statistics, whole.multiply_adds)
        rows.append((profile, network, *(f"{number:,}" for number in numbers)))
    return rows


def _parameters(nets: Nets) -> list[Finding]:
    claims, head, C = paper.Claims(), paper.Head(), nets.classes
    added = {profile: nets.size(profile, "ResNet-SRN", *HEAD).parameters for profile in PROFILES}
    main = {profile: nets.size(profile, "ResNet-101").parameters for profile in PROFILES}
    deeper = {profile: nets.size(profile, "ResNet-107").parameters - main[profile] for profile in PROFILES}
    naive = nets.alone(C, head.conv4, head.conv4_size, 1)
    grouped = nets.alone(head.conv3, head.conv4, head.conv4_size, head.conv3)
    nearer = min(("paper", "released"), key=lambda profile: abs(added[profile] - claims.head))
    return [
        Finding(
            f"parameters that the SRN adds, C = {C}",
            "3",
            f"about {claims.head:,}",
            _numbers(added),
            f"the text's head is {_off(added['paper'], claims.head)}, the released one"
            f" {_off(added['released'], claims.head)}; the claim is nearer to the {nearer} one",
        ),
        Finding(
            f"conv4 without groups on U, C = {C}",
            "3",
            f"{claims.ungrouped_per_label:,} C = {claims.ungrouped_per_label * C:,}",
            {"paper": f"{naive // C:,} C = {naive:,}"},
            f"{_off(naive, claims.ungrouped_per_label * C)}; with {head.conv3} groups it is {grouped:,},"
            f" {naive / grouped:.0f} times fewer",
        ),
        Finding(
            f"parameters of ResNet-101, {C} labels",
            "3",
            f"about {claims.main_net:,}",
            _numbers(main),
            f"{_off(main['paper'], claims.main_net)}",
        ),
        Finding(
            "parameters that ResNet-107 adds to ResNet-101",
            "4",
            "none given",
            _numbers(deeper),
            f"{deeper['paper'] / added['paper']:.1f} times the text's head,"
            f" {deeper['released'] / added['released']:.1f} times the released one: more parameters than the SRN adds,"
            " and lower figures in every table",
        ),
    ]


def _maps(nets: Nets) -> list[Finding]:
    main, head = paper.MainNet(), paper.Head()
    side, label_maps = main.tap_size, f"{nets.classes}x{main.tap_size}x{main.tap_size}"
    stated = {
        "X": (f"{main.tap_channels}x{side}x{side}", "3.1", f"X, the output of {main.tap}"),
        "last": (f"{main.outputs[-1]}x{main.last_size}x{main.last_size}", "3.1", "the last map of the main net"),
        "A": (label_maps, "3.2", "attention A"),
        "U": (label_maps, "3.3", "weighted attention U"),
        "conv3": (f"{head.conv3}x{side}x{side}", "3.3", "conv3"),
        "conv4": (f"{head.conv4}x1x1", "3.3", "conv4"),
    }
    findings = []
    for symbol, (shape, section, what) in stated.items():
        found = {profile: nets.shape(profile, blobs[symbol]) for profile, blobs in BLOBS.items()}
        wrong = [profile for profile, each in found.items() if each != shape]
        verdict = f"DIFFERS in {', '.join(wrong)}" if wrong else "as stated"
        findings.append(Finding(f"size of {what}", section, shape, found, verdict))
    return findings


def _fields(nets: Nets) -> list[Finding]:
    image, head = paper.MainNet().image, paper.Head()
    fields = {profile: receptive_fields(nets.measured[profile, "ResNet-SRN"][1].graph) for profile in PROFILES}
    found = {symbol: {p: fields[p][BLOBS[p][symbol]] for p in PROFILES} for symbol in ("X", "conv4")}
    smallest = min(each.size for each in found["X"].values())
    side = head.conv4_size
    return [
        Finding(
            "receptive field of X, in pixels",
            "3.1",
            "none given",
            {p: f"{each.size}, every {each.step}" for p, each in found["X"].items()},
            f"{smallest} and more: larger than the image of {image}, so a position of X can depend on all of it",
        ),
        Finding(
            "receptive field of conv4",
            "3.3",
            f"the whole {side}x{side} map",
            {p: f"{each.size} pixels" for p, each in found["conv4"].items()},
            f"its kernel covers all {side * side} positions at once; conv2 and conv3 (1x1) see one position each",
        ),
    ]


def _numbers(values: dict[str, int]) -> dict[str, str]:
    return {profile: f"{value:,}" for profile, value in values.items()}


def _off(found: int, stated: int) -> str:
    """A deviation in words."""
    percent = 100 * (found / stated - 1)
    if abs(percent) < 0.5:
        return "the claim, rounded"
    return f"{abs(percent):.0f} % {'above' if percent > 0 else 'below'} the claim"
