"""How many images a GPU takes at a time, how many iterations a step has: arithmetic on the paper's numbers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from math import ceil

from ..paper import DataSet, Rates, Recipe, Training
from .config import NetConfig, Step

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
    epochs: tuple[int, ...]  # at each rate
    rates: tuple[float, ...]
    processor: str = "GPU"

    @classmethod
    def of(cls, config: NetConfig) -> Schedule:
        """The schedule of a configuration."""
        images, test_images = image_counts(config)
        recipe = config.dataset.recipe
        if recipe:
            rates = step_rates(recipe, config.step)
            sizes = {"gpus": 1, "testing_gpus": 1, "batch": recipe.batch, "iter_size": 1}
            sizes["test_batch"] = recipe.test_batch
        else:
            rates = paper_rates(config.epochs)
            batch, iter_size = division(config.gpus)
            testing = config.gpus if config.dialect == "srn" else 1
            sizes = {"gpus": config.gpus, "testing_gpus": testing, "batch": batch, "iter_size": iter_size}
            sizes["test_batch"] = Training().test_batch
        divisor = Training().rate_divisor
        each = tuple(rates.first / divisor**index for index in range(len(rates.epochs)))
        return cls(images, test_images, **sizes, epochs=rates.epochs, rates=each, processor="CPU" if recipe else "GPU")

    @property
    def effective_batch(self) -> int:
        """Images per update of the weights."""
        return self.batch * self.gpus * self.iter_size

    @property
    def durations(self) -> tuple[int, ...]:
        """Iterations at each rate: the epochs, the last one filled up."""
        return tuple(ceil(epochs * self.images / self.effective_batch) for epochs in self.epochs)

    @property
    def even(self) -> bool:
        """Whether every rate lasts as long as the others."""
        return len(set(self.durations)) == 1

    @property
    def stepsize(self) -> int:
        """Iterations at each rate, or at the first one where they differ."""
        return self.durations[0]

    @property
    def stepvalues(self) -> tuple[int, ...]:
        """The iterations at which the rate is divided."""
        return tuple(accumulate(self.durations[:-1]))

    @property
    def max_iter(self) -> int:
        return sum(self.durations)

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
        surplus = self.test_iter * self.test_batch * self.testing_gpus - self.test_images
        again = f" ({surplus} of them a second time, as Caffe starts over)" if surplus else ""
        processors = f"{self.gpus} {self.processor}{'s' if self.gpus > 1 else ''}"
        tested = f" x {self.testing_gpus} GPUs" if self.testing_gpus > 1 else ""
        passes = f"({self.test_batch} images{tested})"
        return [
            f"batch: {processors} x {self.batch} images x iter_size {self.iter_size} = {total}",
            f"epoch: {self.images:,} training images / {total} = {self.images / total:,.1f} iterations",
            *self._duration(),
            f"test_interval: one epoch = {self.test_interval:,}",
            f"test_iter: {self.test_images:,} test images / {passes} = {self.test_iter:,}{again}",
        ]

    def _duration(self) -> list[str]:
        """How long each rate lasts, and all of them."""
        rates = ", ".join(f"{rate:g}" for rate in self.rates)
        epoch = f"{self.images:,} / {self.effective_batch}"
        if self.even:
            return [
                f"stepsize: {_epochs(self.epochs[0])} x {epoch} = {self.stepsize:,} iterations at each rate",
                f"max_iter: {len(self.rates)} rates ({rates}) x {self.stepsize:,} = {self.max_iter:,}",
            ]
        each = ", ".join(map(_epochs, self.epochs))
        durations = " + ".join(f"{duration:,}" for duration in self.durations)
        return [
            f"stepvalue: {each} at the rates {rates}, an epoch being {epoch} iterations",
            f"max_iter: {durations} = {self.max_iter:,}",
        ]


def _epochs(number: int) -> str:
    return f"{number} epoch{'s' if number > 1 else ''}"


def paper_rates(epochs: int) -> Rates:
    """The paper's rates (3.4), with as many epochs at each."""
    paper = Training()
    rates = [paper.first_rate]
    while rates[-1] > paper.last_rate * 1.5:
        rates.append(rates[-1] / paper.rate_divisor)
    return Rates(paper.first_rate, (epochs,) * len(rates))


def step_rates(recipe: Recipe, step: Step | None) -> Rates:
    """The rates of a recipe for a step."""
    if step is None or step.number == 1:
        return recipe.whole
    return recipe.parts if step.trained else recipe.finetune


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
