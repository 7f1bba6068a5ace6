"""Which options of the table commands go together."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path

from prototxt_gen.base.errors import DataError, Problems, UsageError
from prototxt_gen.base.files import same_file, unwritable

from ..released.options import LOOKING, PROVING

FROM_SCORES = ("scores", "labels")
FROM_NET = ("prototxt", "caffemodel", "image_list", "image_root", "labels")
FROM_RELEASED = ("released", "image_root")
COMPUTING = ("scores_out", "device")  # only where a net computes scores
SHOWING = ("row", "format", "later")
CLASSES = ("class_names", "baseline_scores")  # only with one of:
FOR_CLASSES = ("per_class", "picture")
EXTRAS = (*CLASSES, *FOR_CLASSES, "definitions", "bootstrap", "seed")


def choose(options: Namespace) -> str:
    """Where the figures come from: "scores", "net", "released" or "example"; raises UsageError naming the options
    that are missing or do not go together."""
    given = [name for name, value in vars(options).items() if value is not None and value is not False and value != []]
    source: str
    needs: tuple[str, ...]
    may: tuple[str, ...]
    if "released" in given:
        source, needs, may = "released", ("released",), FROM_RELEASED + SHOWING + LOOKING
        may += EXTRAS if "dry_run" not in given else ()
        may += COMPUTING + PROVING if "image_root" in given and "dry_run" not in given else ()
    elif "scores" in given:
        source, needs, may = "scores", FROM_SCORES, (*FROM_SCORES, "index", *SHOWING, *EXTRAS)
    elif set(given) & set(FROM_NET + COMPUTING):
        source, needs, may = "net", FROM_NET, (*FROM_NET, *COMPUTING, "layers", "index", *SHOWING, *EXTRAS)
    else:
        source, needs, may = "example", (), ("image",)
    missing = [name for name in needs if name not in given]
    allowed = [name for name in given if name in may]
    extra = [name for name in given if name not in may]
    problems = []
    if missing:
        hint = "; or give --scores" if given == ["labels"] else ""
        problems.append(f"{_flags(allowed)} given, but not {_flags(missing)}{hint}")
    if extra and source == "example":
        hint = "give --scores, --prototxt or --released"
        problems.append(f"{_flags(extra)} given, but nothing to evaluate: {hint}")
    elif extra:
        problems.append(f"{_flags(extra)} cannot be combined with {_flags(allowed)}")
    if set(given) & set(CLASSES) and not set(given) & set(FOR_CLASSES):
        needless = [name for name in given if name in CLASSES]
        problems.append(f"{_flags(needless)} given, but not --per-class or --picture")
    if "seed" in given and "bootstrap" not in given:
        problems.append("--seed given, but not --bootstrap")
    if problems:
        raise UsageError(". ".join(problems))
    return source


def check_outputs(options: Namespace, reads: Iterable[Path] = ()) -> None:
    """Raises DataError for outputs that this run reads, `reads` among it, and for extras that cannot be written.

    Whether computed scores can be written is said with all else that a net takes.
    """
    inputs = [*reads, *(Path(path) for name in _READ if (path := getattr(options, name, None)) is not None)]
    with Problems(DataError) as problems:
        for name in _WRITTEN:
            if (path := getattr(options, name)) is None:
                continue
            problems.found += unwritable(path) if name in FOR_CLASSES else []
            if any(same_file(path, other) for other in inputs):
                problems.add("is read by this run, and would be lost", file=path, fix="choose another name")


_WRITTEN = ("scores_out", *FOR_CLASSES)
_READ = ("scores", "labels", "index", "prototxt", "caffemodel", "image_list", "baseline_scores", "class_names")


def _flags(names: Iterable[str]) -> str:
    return ", ".join("--" + name.replace("_", "-") for name in names)
