"""How many images a GPU takes at a time, how many iterations a step has: arithmetic on the paper's numbers."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from ..paper import DataSet, Training
from .config import NetConfig

# What each of the paper's GPUs took: batch normalisation sees no more than that at once.
MOST_PER_GPU = Training().batch // Training().gpus


@dataclass(frozen=True)
class Schedule:
    """A training step in numbers. `batch` and `test_batch` are images per GPU and pass."""

    images: int
    test_images: int
    gpus: int
    testing_gpus: int  # BVLC tests on the first GPU only
    batch: int
    iter_size: int
    test_batch: int
    epochs: int  # at each rate
    rates: tuple[float, ...]

    @classmethod
    def of(cls, config: NetConfig) -> Schedule:
        """The schedule of a configuration."""
        paper = Training()
        images, test_images = image_counts(config)
        batch, iter_size = division(config.gpus)
        rates = [paper.first_rate]
        while rates[-1] > paper.last_rate * 1.5:
            rates.append(rates[-1] / paper.rate_divisor)
        testing = config.gpus if config.dialect == "srn" else 1
        return cls(
            images, test_images, config.gpus, testing, batch, iter_size, paper.test_batch, config.epochs, tuple(rates)
        )

    @property
    def effective_batch(self) -> int:
        """Images per update of the weights."""
        return self.batch * self.gpus * self.iter_size

    @property
    def stepsize(self) -> int:
        """Iterations at each rate: the epochs, the last one filled up."""
        return ceil(self.epochs * self.images / self.effective_batch)

    @property
    def max_iter(self) -> int:
        return self.stepsize * len(self.rates)

    @property
    def test_interval(self) -> int:
        """Iterations between two validations: an epoch."""
        return ceil(self.images / self.effective_batch)

    @property
    def test_iter(self) -> int:
        """Passes of one validation: all test images."""
        return ceil(self.test_images / (self.test_batch * self.testing_gpus))

    def arithmetic(self) -> list[str]:
        """How the numbers of the solver come about."""
        total = self.effective_batch
        rates = ", ".join(f"{rate:g}" for rate in self.rates)
        surplus = self.test_iter * self.test_batch * self.testing_gpus - self.test_images
        again = f" ({surplus} of them a second time, as Caffe starts over)" if surplus else ""
        gpus = f"{self.gpus} GPU{'s' if self.gpus > 1 else ''}"
        tested = f" x {self.testing_gpus} GPUs" if self.testing_gpus > 1 else ""
        passes = f"({self.test_batch} images{tested})"
        return [
            f"batch: {gpus} x {self.batch} images x iter_size {self.iter_size} = {total}",
            f"epoch: {self.images:,} training images / {total} = {self.images / total:,.1f} iterations",
            f"stepsize: {self.epochs} epochs x {self.images:,} / {total} = {self.stepsize:,} iterations at each rate",
            f"max_iter: {len(self.rates)} rates ({rates}) x {self.stepsize:,} = {self.max_iter:,}",
            f"test_interval: one epoch = {self.test_interval:,}",
            f"test_iter: {self.test_images:,} test images / {passes} = {self.test_iter:,}{again}",
        ]


def image_counts(config: NetConfig) -> tuple[int, int]:
    """Training and test images: the paper's, or in the released profile the release's."""
    data: DataSet = config.dataset
    paper = (data.training_images, data.test_images)
    return data.released or paper if config.profile.name == "released" else paper


def division(gpus: int) -> tuple[int, int]:
    """Images per GPU and pass, and passes per update (iter_size), that make the paper's batch."""
    share = Training().batch // gpus
    iter_size = next(n for n in range(1, share + 1) if share % n == 0 and share // n <= MOST_PER_GPU)
    return share // iter_size, iter_size


def possible_gpus() -> list[int]:
    """The numbers of GPUs that share the paper's batch equally."""
    batch = Training().batch
    return [gpus for gpus in range(1, batch + 1) if batch % gpus == 0]
