"""The one exception family of the project, and how every message is put together.

A message names the file, line, layer and field, what was found, what was expected and the way out.
A check that meets several problems collects them (`Problems`) and raises once, with all of them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong; every part but `found` may be absent."""

    found: str
    expected: str = ""
    fix: str = ""
    file: str | Path = ""
    line: int = 0  # 1-based; 0: unknown
    column: int = 0  # 1-based; 0: unknown
    layer: str = ""
    field: str = ""

    def __str__(self) -> str:
        place = str(self.file)
        if self.line:
            place += f":{self.line}" + (f":{self.column}" if self.column else "")
        subject = [f"layer '{self.layer}'"] if self.layer else []
        subject += [f"field '{self.field}'"] if self.field else []
        head = ": ".join(part for part in (place, ", ".join(subject)) if part)
        text = f"{head}: {self.found}" if head else self.found
        if self.expected:
            text += f"; expected {self.expected}"
        if self.fix:
            text += f". {self.fix[0].upper()}{self.fix[1:]}"
        return text


ALIKE = 3  # so many problems that differ in their place alone are told one by one


def told(problems: Iterable[Problem]) -> list[str]:
    """The problems as lines; where more than `ALIKE` say the same of different places, once with their number."""
    groups: dict[tuple[str, ...], list[Problem]] = {}
    for each in problems:
        groups.setdefault((each.found, each.expected, each.fix, str(each.file), each.field), []).append(each)
    lines: list[str] = []
    for group in groups.values():
        if len(group) <= ALIKE:
            lines += map(str, group)
            continue
        places = list(dict.fromkeys(f"'{each.layer}'" if each.layer else f"line {each.line}" for each in group[1:]))
        rest = len(places) - ALIKE
        more = f" and {rest} more" if rest > 0 else ""
        lines.append(f"{group[0]} ({len(group)} times: also {', '.join(places[:ALIKE])}{more})")
    return lines


class CaffeError(Exception):
    """Base of every error that a user of this project can cause or meet; holds all `problems` at once."""

    def __init__(self, problems: str | Problem | Iterable[Problem]):
        if isinstance(problems, str):
            problems = Problem(problems)
        self.problems = [problems] if isinstance(problems, Problem) else list(problems)
        super().__init__("\n".join(told(self.problems)))


class ParseError(CaffeError):
    """A prototxt that is not in the text format, or not in the schema."""


class NetError(CaffeError):
    """A net that Caffe's rules do not allow: unknown layers, missing bottoms, shapes that do not fit."""


class WeightsError(CaffeError):
    """A weights file that is damaged, or belongs to another net."""


class DataError(CaffeError):
    """An image, list, label or scores file that cannot be used."""


class UsageError(CaffeError):
    """A command or call whose arguments do not go together."""


class ExportError(CaffeError):
    """A net that cannot be written in the wanted format."""


class CaffeWarning(UserWarning):
    """Something that a user should know about a net that is otherwise fine; commands print it as a note."""


class Problems:
    """Collects problems and raises them together: `with Problems(NetError) as problems: ...`."""

    def __init__(self, error: type[CaffeError], file: str | Path = ""):
        self.error = error
        self.file = file
        self.found: list[Problem] = []

    def add(self, found: str, **parts) -> None:
        self.found.append(Problem(found, **{"file": self.file, **parts}))

    def __enter__(self) -> Problems:
        return self

    def __exit__(self, kind, value, trace) -> None:
        if kind is None:
            self.raise_if_any()

    def raise_if_any(self) -> None:
        if self.found:
            raise self.error(self.found)


NEARLY = 0.8  # of `closest`, where much else than a slip of the pen may be meant


def closest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """A hint for a misspelt name: "did you mean 'x'?", or the known names when none is close (1: the same)."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=cutoff)
    if not near:  # Caffe tells capitals from small letters, who types often does not
        small = {each.lower(): each for each in known}
        near = [small[each] for each in difflib.get_close_matches(name.lower(), small, n=1, cutoff=cutoff)]
    if near:
        return f"did you mean '{near[0]}'?"
    return "known: " + ", ".join(known) if known else "none is known here"
