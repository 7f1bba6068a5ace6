"""What a net is built from: the paper's numbers, the data set's labels, the dialect."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ..paper import DataSet, Head, MainNet

BATCH = 1  # of the test nets' input; callers reshape it


@dataclass(frozen=True)
class NetConfig:
    """One net to build. `main` and `head` hold the sizes in use, narrower than the paper's when divided."""

    network: str
    dataset: DataSet
    classes: int
    profile: str
    dialect: str
    width_divisor: int = 1
    main: MainNet = field(default_factory=MainNet)
    head: Head = field(default_factory=Head)

    @property
    def image_shape(self) -> tuple[int, int, int, int]:
        """The input blob's shape: N x 3 x H x W."""
        return BATCH, 3, self.main.image, self.main.image

    def narrowed(self) -> NetConfig:
        """This net with every channel count divided by `width_divisor`; sizes of maps and C stay."""

        def narrow(channels):
            if isinstance(channels, tuple):
                return tuple(map(narrow, channels))
            return channels // self.width_divisor

        main, head = self.main, self.head
        main = replace(main, stem=narrow(main.stem), outputs=narrow(main.outputs))
        channels = {name: narrow(getattr(head, name)) for name in ("attention", "conv2", "conv3", "conv4")}
        return replace(self, main=main, head=replace(head, **channels))


def width_divisors(main: MainNet | None = None) -> list[int]:
    """The divisors that leave at least one whole channel everywhere: those of the narrowest layer."""
    narrowest = (main or MainNet()).stem
    return [divisor for divisor in range(1, narrowest + 1) if narrowest % divisor == 0]
