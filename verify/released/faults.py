"""What may be wrong with released files, named: one fault, the file it is in, and the evidence for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prototxt_gen.base.errors import CaffeError, Problem

# Of these no run can come: the command ends with the status for bad input.
UNUSABLE = ("missing", "damaged", "other data set")
_SHOWN = 5


@dataclass(frozen=True)
class Fault:
    """One likely fault. `kind` is one word or two for programs, `text` says it in a sentence."""

    kind: str
    text: str
    file: Path | None = None
    evidence: tuple[str, ...] = ()
    fix: str = ""

    @property
    def unusable(self) -> bool:
        """Whether the file cannot be used at all, as opposed to files that do not fit together."""
        return self.kind in UNUSABLE

    def lines(self) -> list[str]:
        """For people: the fault, then its evidence and the way out, indented."""
        head = f"{self.kind.upper()}: {self.file}: {self.text}" if self.file else f"{self.kind.upper()}: {self.text}"
        return [head, *(f"  {line}" for line in self.evidence), *([f"  way out: {self.fix}"] if self.fix else [])]

    def data(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "kind": self.kind,
            "file": str(self.file) if self.file else None,
            "text": self.text,
            "evidence": list(self.evidence),
            "fix": self.fix,
        }


def damaged(file: Path, error: CaffeError, fix: str = "fetch the file again") -> Fault:
    """An error met on reading a file, as a fault: the first problem, the next ones as evidence."""
    first, *others = (_about(problem, file) for problem in error.problems)
    return Fault("damaged", first, file, tuple(some(others)), "" if error.problems[0].fix else fix)


def _about(problem: Problem, file: Path) -> str:
    """A problem in words, without the name of the file where it is the one."""
    if str(problem.file) != str(file):
        return str(problem)
    place = f"line {problem.line}: " if problem.line else ""
    return place + str(replace(problem, file="", line=0, column=0))


def some(texts: Iterable[str], shown: int = _SHOWN) -> list[str]:
    """The first few of many lines, and how many more there are."""
    texts = list(texts)
    left = len(texts) - shown
    return texts if left <= 0 else [*texts[:shown], f"{left:,} more"]
