"""What a net is built from: network, data set, profile, dialect, and the paper's numbers in use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from ..builder import NetBuilder
from ..paper import DataSet, Fact, Head, MainNet, ReleasedHead, Semantic, Training

BATCH = 1  # of the test nets' input; callers reshape it

# Logits, N x C, by the paper's symbols: of the main net, the attention, the regularization, the whole.
LOGITS = ("y_cls", "y_att", "y_sr", "y")


@dataclass(frozen=True)
class Main:
    """The blobs of the main net that a head may read."""

    X: str  # N x 1024 x 14 x 14
    pooled: str  # N x 2048 (x 1 x 1): the average of the last map
    y_cls: str = "y_cls"  # N x C


# A head adds its layers to the net; its logits are blobs named as in LOGITS.
HeadBuilder = Callable[[NetBuilder, "NetConfig", Main], Any]
Layers = Callable[[NetBuilder, "NetConfig", str], str]  # from one blob to another


@dataclass(frozen=True)
class Profile:
    """One reading of the paper: how the main net and the parts of the SRN head are written."""

    name: str
    about: str
    main_net: Callable[[NetBuilder, NetConfig, str], tuple[str, str]]  # image -> X, last map
    classifier: Layers  # last map -> pooled, and y_cls
    base: Layers  # X -> what attention and confidence read
    attention: Layers  # -> A
    confidence: Layers  # -> S
    weigh: Callable[[NetBuilder, str, str], str]  # A, S -> U
    regularization: Layers  # U (or A) -> y_sr
    joint: tuple[str, ...]  # logits whose losses train the whole net in the last step
    joint_fact: Fact
    facts: tuple[Fact, ...]  # about the main net
    head_facts: tuple[Fact, ...] = ()


@dataclass(frozen=True)
class Step:
    """One step of the training: which parts move, and by the losses of which logits."""

    number: int
    name: str  # in file names: step_<number>_<name>_solver.prototxt
    about: str
    network: str  # with whose files it is written
    head: HeadBuilder | None = None
    trained: tuple[str, ...] = ()  # parts of the net; none given: all
    losses: tuple[str, ...] = ()  # none given: the profile's joint ones
    facts: tuple[Fact, ...] = ()
    start: str = ""  # the weights that a first step takes from elsewhere

    @property
    def stem(self) -> str:
        """What its files begin with."""
        return f"step_{self.number}_{self.name}"

    def from_start(self, start: str) -> str:
        """What the step does, and, for a first one, what it starts from."""
        return f"{self.about}, from {start}" if self.start else self.about


@dataclass(frozen=True)
class Network:
    """A network of the paper: its part of the file names, its head, the steps of its training."""

    name: str
    file: str
    about: str
    steps: tuple[Step, ...]
    head: HeadBuilder | None = None
    extra_units: int = 0  # residual units behind the last stage
    numbers: tuple[Any, ...] = (MainNet(),)  # the groups of the paper's numbers that it is built from
    facts: tuple[Fact, ...] = ()

    @property
    def spatial(self) -> bool:
        """Whether it has the paper's head."""
        return Head() in self.numbers


@dataclass(frozen=True)
class NetConfig:
    """One net to build: a test net, or the train_val net of `step`.

    `main`, `head`, `semantic` and `released` hold the sizes in use, narrower than the paper's when divided.
    """

    network: Network
    dataset: DataSet
    classes: int
    profile: Profile
    dialect: str
    width_divisor: int = 1
    gpus: int = Training().gpus
    epochs: int = Training().epochs
    step: Step | None = None
    main: MainNet = field(default_factory=MainNet)
    head: Head = field(default_factory=Head)
    semantic: Semantic = field(default_factory=Semantic)
    released: ReleasedHead = field(default_factory=ReleasedHead)

    @property
    def image_shape(self) -> tuple[int, int, int, int]:
        """The test net's input: N x 3 x H x W."""
        return BATCH, 3, self.main.image, self.main.image

    @property
    def about_step(self) -> str:
        """What the step does, and what it starts from."""
        assert self.step is not None
        return self.step.from_start("fillers" if self.dataset.recipe else self.step.start)

    @property
    def losses(self) -> tuple[str, ...]:
        """The logits that a train_val net is trained on; none for a test net."""
        if self.step is None:
            return ()
        return self.step.losses or self.profile.joint

    def only_monitored(self, logits: str) -> dict[str, Any]:
        """The fields of a layer that serves `logits` alone: without a loss on them in training, TEST only."""
        return {} if self.step is None or logits in self.losses else {"include": {"phase": "TEST"}}

    def narrowed(self) -> NetConfig:
        """This net with every channel count divided by `width_divisor`; sizes of maps and C stay."""

        def narrow(channels):
            if isinstance(channels, tuple):
                return tuple(map(narrow, channels))
            return channels // self.width_divisor

        def group(numbers, *names):
            return replace(numbers, **{name: narrow(getattr(numbers, name)) for name in names})

        return replace(
            self,
            main=group(self.main, "stem", "outputs"),
            head=group(self.head, "attention", "conv2", "conv3", "conv4"),
            semantic=group(self.semantic, "hidden"),
            released=group(self.released, "confidence"),
        )


def width_divisors(main: MainNet | None = None) -> list[int]:
    """The divisors that leave at least one whole channel everywhere: those of the narrowest layer."""
    narrowest = (main or MainNet()).stem
    return [divisor for divisor in range(1, narrowest + 1) if narrowest % divisor == 0]
