"""A net as a picture: one box for each layer, coloured by what it does, lines for the blobs with their shapes.

Layers that only change the values of the one blob they get hang directly below the layer that made it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from ..caffemodel.sniff import printable
from ..layers import Shape, show
from .layout import Layout, Place, lay_out
from .survey import UNKNOWN, Entry, Survey

# Category -> fill, outline: the families of layers, and what else there is in a picture.
_CATEGORIES: dict[str, tuple[str, str]] = {
    "input": ("#e8eaed", "#80868b"),
    "weights": ("#c6dafc", "#3367d6"),
    "normalisation": ("#e1d5f5", "#7e57c2"),
    "activation": ("#ffe0b2", "#ef8e19"),
    "pooling": ("#c8e6c9", "#388e3c"),
    "joining": ("#b2ebf2", "#0097a7"),
    "reshaping": ("#eceff1", "#607d8b"),
    "loss or metric": ("#f8bbd0", "#c2185b"),
    "other": ("#fff9c4", "#a89a10"),
    "unknown": ("#ffffff", "#d50000"),
    "output": ("#ffffff", "#3c4043"),
}

_FONT = 11
_CHARACTER = 6.1  # mean width at that size
_LEAST_WIDTH, _MOST_WIDTH = 120, 290
_TALL, _LOW, _FLAT = 31, 17, 15  # rows: the first layer of a box, the others, a blob that leaves it
_GAP_X, _GAP_Y = 24, 38
_MARGIN, _HEAD = 24, 64


@dataclass
class _Row:
    """A layer, or a blob at an end of the net, as it is written into a box."""

    name: str
    about: str
    category: str
    tip: str
    faulty: bool = False


@dataclass(eq=False)
class _Line:
    """One version of a blob: the layer that makes it (of an input -1, -2, ...), and the layers that read it."""

    blob: str
    shape: Shape | None
    maker: int
    readers: list[int] = field(default_factory=list)
    source: int = 0  # their boxes
    targets: list[int] = field(default_factory=list)


def svg(survey: Survey) -> str:
    """The picture as an SVG document."""
    boxes, lines = _boxes(survey)
    longest = max((max(len(row.name), len(row.about)) for rows in boxes for row in rows), default=0)
    longest = max([longest, *(len(f"{line.blob}  {_shape(line.shape)}") for line in lines)])
    width = min(max(longest * _CHARACTER + 16, _LEAST_WIDTH), _MOST_WIDTH)
    layout = lay_out([width] * len(boxes), [(line.source, line.targets) for line in lines], _GAP_X)
    return _Picture(survey, boxes, lines, layout, width).text()


def _boxes(survey: Survey) -> tuple[list[list[_Row]], list[_Line]]:
    """The boxes from top to bottom, each a list of rows, and the lines between them."""
    boxes: list[list[_Row]] = []
    box_of: dict[int, int] = {}
    lines, read = _connect(survey)
    faulty = {problem.layer for problem in survey.problems}
    for i, (blob, shape) in enumerate(survey.inputs):
        box_of[-1 - i] = len(boxes)
        boxes.append([_Row(blob, "input", "input", f"input {blob} {_shape(shape)}")])
    for i, entry in enumerate(survey.entries):
        row = _Row(entry.name, _about(entry), _category(entry), _tip(entry), entry.name in faulty)
        if _hangs(entry, read[i], lines):
            box_of[i] = box_of[read[i][0].maker]
            boxes[box_of[i]].append(row)
            lines.remove(read[i][0])
        else:
            box_of[i] = len(boxes)
            boxes.append([row])
    for line in lines:
        line.source, line.targets = box_of[line.maker], [box_of[reader] for reader in line.readers]
        if not line.readers:
            line.targets = [len(boxes)]
            boxes.append([_Row(line.blob, f"output {_shape(line.shape)}", "output", f"output {line.blob}")])
    return boxes, lines


def _connect(survey: Survey) -> tuple[list[_Line], list[list[_Line]]]:
    """All versions of all blobs, and for each layer those that it reads."""
    lines = [_Line(blob, shape, -1 - i) for i, (blob, shape) in enumerate(survey.inputs)]
    current = {line.blob: line for line in lines}
    read = []
    for i, entry in enumerate(survey.entries):
        read.append([current[blob] for blob in entry.bottoms if blob in current])
        for line in read[-1]:
            line.readers.append(i)
        made = [_Line(blob, shape, i) for blob, shape in zip(entry.tops, entry.shapes, strict=False)]
        current |= {line.blob: line for line in made}
        lines += made
    return lines, read


def _hangs(entry: Entry, read: list[_Line], lines: list[_Line]) -> bool:
    """Whether a layer is drawn below the one that makes its bottom, as part of the same box."""
    if len(entry.bottoms) != 1 or len(entry.tops) != 1 or len(read) != 1 or len(read[0].readers) != 1:
        return False
    alone = sum(line.maker == read[0].maker for line in lines) == 1
    return alone and (entry.hangs or entry.bottoms == entry.tops)


def _category(entry: Entry) -> str:
    if entry.kind == UNKNOWN:
        return "unknown"
    if entry.kind in ("loss", "metric"):
        return "loss or metric"
    return entry.family


def _about(entry: Entry) -> str:
    return f"{entry.type}: {entry.settings}" if entry.settings else entry.type


def _tip(entry: Entry) -> str:
    made = ", ".join(f"{blob} {_shape(shape)}" for blob, shape in zip(entry.tops, entry.shapes, strict=False))
    lines = [f"{entry.name} ({_about(entry)})"]
    lines += [f"from {', '.join(entry.bottoms) or 'nothing'}", f"to {made or 'nothing'}"]
    if entry.size is not None and (entry.size.parameters or entry.size.multiply_adds):
        lines.append(f"{entry.size.parameters:,} parameters, {entry.size.multiply_adds:,} multiply-adds")
    return "\n".join(lines)


def _shape(shape: Shape | None) -> str:
    return "?" if shape is None else show(shape)


class _Picture:
    """Turns boxes, lines and their places into SVG."""

    def __init__(self, survey: Survey, boxes: list[list[_Row]], lines: list[_Line], layout: Layout, width: float):
        self.survey, self.boxes, self.lines, self.layout, self.box_width = survey, boxes, lines, layout, width
        self.leaving = [self._labels(i) for i in range(len(boxes))]
        self.heights = [
            _TALL + _LOW * (len(rows) - 1) + _FLAT * len(labels)
            for rows, labels in zip(boxes, self.leaving, strict=True)
        ]
        places = [place for rank in layout.ranks for place in rank]
        left = min((place.x - place.width / 2 for place in places), default=0.0)
        right = max((place.x + place.width / 2 for place in places), default=0.0)
        self.shift = _MARGIN - left
        self.width = max(right - left + 2 * _MARGIN, 620)
        self.tops: list[float] = []
        y = float(_HEAD + _MARGIN)
        for rank in layout.ranks:
            self.tops.append(y)
            y += max((self.heights[place.box] for place in rank if not place.is_waypoint), default=0) + _GAP_Y
        self.height = y - _GAP_Y + _MARGIN

    def text(self) -> str:
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width:.0f}" height="{self.height:.0f}" '
            f'viewBox="0 0 {self.width:.0f} {self.height:.0f}" font-family="Helvetica, Arial, sans-serif" '
            f'font-size="{_FONT}">'
        )
        arrow = (
            '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
            'orient="auto"><path d="M0 0L8 4L0 8z" fill="#5f6368"/></marker></defs>'
        )
        parts = [head, arrow, '<rect width="100%" height="100%" fill="#ffffff"/>', *self._heading()]
        parts += [self._line(i, line) for i, line in enumerate(self.lines)]
        parts += [self._box(i, rows) for i, rows in enumerate(self.boxes)]
        return "\n".join([*parts, "</svg>", ""])

    def _heading(self) -> list[str]:
        survey, size = self.survey, self.survey.size
        partial = "at least " if any(entry.size is None for entry in survey.entries) else ""
        totals = f"{len(survey.entries)} layers, {partial}{size.parameters:,} parameters, "
        totals += f"{size.multiply_adds:,} multiply-adds"
        if survey.problems:
            totals += f"; problems: {len(survey.problems)}"
        title = f"{survey.name or 'net without a name'}, phase {survey.phase}, dialect {survey.dialect}"
        parts = [_text(_MARGIN, 28, title, "font-size='16' font-weight='bold'"), _text(_MARGIN, 46, totals, "")]
        x = float(_MARGIN)
        used = {row.category for rows in self.boxes for row in rows}
        for name, (fill, outline) in _CATEGORIES.items():
            if name in used:
                parts.append(f'<rect x="{x:.1f}" y="56" width="11" height="11" fill="{fill}" stroke="{outline}"/>')
                parts.append(_text(x + 15, 65.5, name, "fill='#3c4043'"))
                x += 15 + len(name) * _CHARACTER + 14
        return parts

    def _x(self, place: Place) -> float:
        return place.x + self.shift

    def _bottom(self, place: Place) -> float:
        """Where lines leave: under a box, or at the lower end of a waypoint's rank."""
        tallest = max((self.heights[p.box] for p in self.layout.ranks[place.rank] if not p.is_waypoint), default=0)
        return self.tops[place.rank] + (tallest if place.is_waypoint else self.heights[place.box])

    def _line(self, index: int, line: _Line) -> str:
        """All branches of one blob as one path for each target."""
        paths = []
        for target, way in self.layout.ways[line.source, index].items():
            x, y = self._exit(line)
            path = f"M{x:.1f} {y:.1f}"
            for place in way[1:]:
                to_x = self._x(place) if place.is_waypoint else self._entry(place, way[-2])
                to_y = self.tops[place.rank] - (0 if place.is_waypoint else 1)
                middle = (y + to_y) / 2 if y < self.tops[place.rank] - _GAP_Y else y + (to_y - y) / 2
                path += f"C{x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} {to_y:.1f}"
                x, y = to_x, to_y
                if place.is_waypoint:
                    y = self._bottom(place)
                    path += f"L{x:.1f} {y:.1f}"
            dash = ' stroke-dasharray="4 3"' if self.boxes[target][0].category == "output" else ""
            paths.append(f'<path d="{path}" fill="none" stroke="#5f6368"{dash} marker-end="url(#arrow)"/>')
        return "\n".join(paths)

    def _exit(self, line: _Line) -> tuple[float, float]:
        """Where a blob leaves its box: side by side if there are several."""
        box = self.layout.boxes[line.source]
        siblings = [other for other in self.lines if other.source == line.source]
        share = (siblings.index(line) + 1) / (len(siblings) + 1) - 0.5
        return self._x(box) + share * self.box_width, self.tops[box.rank] + self.heights[line.source]

    def _entry(self, box: Place, previous: Place) -> float:
        """The x at which a line enters a box, in the order in which the lines come."""
        coming = sorted(box.above, key=lambda place: place.x)
        share = (coming.index(previous) + 1) / (len(coming) + 1) - 0.5
        return self._x(box) + share * min(self.box_width, 40.0 * len(coming))

    def _box(self, index: int, rows: list[_Row]) -> str:
        place = self.layout.boxes[index]
        x, y = self._x(place) - self.box_width / 2, self.tops[place.rank]
        parts = []
        for number, row in enumerate(rows):
            fill, outline = _CATEGORIES[row.category]
            height = _LOW if number else _TALL
            style = f'fill="{fill}" stroke="{"#d50000" if row.faulty else outline}"'
            style += ' stroke-width="2"' if row.faulty else ""
            style += ' stroke-dasharray="4 2"' if row.category == "unknown" else ""
            corners = ' rx="12"' if row.category in ("input", "output") else ""
            parts.append(f"<g><title>{_clean(row.tip)}</title>")
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{self.box_width:.1f}" height="{height}" {style}{corners}/>'
            )
            middle = x + self.box_width / 2
            if number:
                both = f"{row.name}  {row.about}" if row.name != row.about else row.name
                parts.append(_text(middle, y + 12.5, self._cut(both), "text-anchor='middle'"))
            else:
                parts.append(_text(middle, y + 13, self._cut(row.name), "text-anchor='middle' font-weight='bold'"))
                parts.append(_text(middle, y + 26, self._cut(row.about), "text-anchor='middle' fill='#3c4043'"))
            parts.append("</g>")
            y += height
        return "".join([*parts, *self._footer(index, x, y)])

    def _footer(self, index: int, x: float, y: float) -> Iterator[str]:
        """The blobs that leave a box, in a white strip at its lower end."""
        labels = self.leaving[index]
        if labels:
            outline = _CATEGORIES[self.boxes[index][-1].category][1]
            size = f'width="{self.box_width:.1f}" height="{_FLAT * len(labels)}"'
            yield f'<rect x="{x:.1f}" y="{y:.1f}" {size} fill="#ffffff" stroke="{outline}"/>'
        for number, label in enumerate(labels):
            at = y + _FLAT * number + 11
            yield _text(
                x + self.box_width / 2, at, self._cut(label), "text-anchor='middle' font-size='10' fill='#5f6368'"
            )

    def _cut(self, text: str) -> str:
        most = int((self.box_width - 8) / _CHARACTER)
        return text if len(text) <= most else text[: most - 1] + "…"

    def _labels(self, index: int) -> list[str]:
        """What leaves a box, from left to right: shapes, with the blob's name unless a layer of the box has it.

        They stand inside the box: no line of the picture comes there.
        """
        names = {row.name for row in self.boxes[index]}
        leaving = [line for line in self.lines if line.source == index]
        return [_shape(line.shape) if line.blob in names else f"{line.blob}  {_shape(line.shape)}" for line in leaving]


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{_clean(text)}</text>'


def _clean(text: str) -> str:
    return escape("\n".join(map(printable, text.split("\n"))))
