"""Whether the figures of a table agree with one another, within their rounding to one decimal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .printed import TABLES, read_table

ROUNDING = 0.05  # of a figure in percent with one decimal
CUTS = ("", "@3")  # labels above 0.5; the three most confident ones

AGREES, BELOW, ABOVE = "agrees", "below", "above"


@dataclass(frozen=True)
class F1Check:
    """A printed F1 beside the harmonic mean of the printed precision and recall, all in percent."""

    table: int
    method: str
    kind: str  # "F1-O" (over all pairs) or "F1-C" (over the classes), "@3" behind it for the top three
    precision: float
    recall: float
    printed: float

    @property
    def harmonic(self) -> float:
        return harmonic(self.precision, self.recall)

    @property
    def relation(self) -> str:
        """Whether the printed figure agrees with the harmonic mean, or lies below or above all it can be."""
        low = harmonic(self.precision - ROUNDING, self.recall - ROUNDING)
        high = harmonic(self.precision + ROUNDING, self.recall + ROUNDING)
        if self.printed + ROUNDING < low:
            return BELOW
        return ABOVE if self.printed - ROUNDING > high else AGREES

    @property
    def verdict(self) -> str:
        """What the relation says: of all pairs F1 is the harmonic mean, of classes it may be a mean of F1s.

        The harmonic mean is concave, so the mean of the classes' F1 cannot exceed that of their means.
        """
        if self.kind.startswith("F1-O"):
            return "consistent" if self.relation == AGREES else "INCONSISTENT"
        return {
            AGREES: "harmonic mean of P-C and R-C",
            BELOW: "mean of the classes' F1",
            ABOVE: "NEITHER: above the harmonic mean, which bounds the mean of the classes' F1",
        }[self.relation]


@dataclass(frozen=True)
class SubsetCheck:
    """Recall and precision with the top three, dropped below 0.5: fewer labels than all above 0.5."""

    table: int
    method: str
    recall: float
    recall_top: float

    @property
    def consistent(self) -> bool:
        return round(self.recall_top - self.recall, 6) <= 2 * ROUNDING


def harmonic(precision: float, recall: float) -> float:
    """F1 of a precision and a recall."""
    return 2 * precision * recall / (precision + recall)


def f1_checks() -> Iterator[F1Check]:
    """Every printed F1 whose precision and recall are printed as well."""
    for number in TABLES:
        for method, row in read_table(number).items():
            for letter in "OC":
                for cut in CUTS:
                    names = [f"{kind}-{letter}{cut}" for kind in ("P", "R", "F1")]
                    if all(name in row for name in names):
                        yield F1Check(number, method, names[2], *(row[name] for name in names))


def subset_checks() -> Iterator[SubsetCheck]:
    """Table 2: the top three labels above 0.5 are among all labels above 0.5, so their recall is no larger."""
    for method, row in read_table(2).items():
        if "R-O" in row and "R-O@3" in row:
            yield SubsetCheck(2, method, row["R-O"], row["R-O@3"])


def labels_per_image() -> Iterator[tuple[str, float]]:
    """Table 1: with three labels for every image, labels per image = 3 P-O@3 / R-O@3, for each method."""
    for method, row in read_table(1).items():
        yield method, 3 * row["P-O@3"] / row["R-O@3"]
