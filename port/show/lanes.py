"""The lines between the layers of a net, beside a table of them: one column for each blob still to be read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

ASCII = str.maketrans("│─●├┤┼╯╰", "|-o|||''")


@dataclass
class Row:
    """One layer of a drawing: the versions of blobs that it reads and makes (numbers), and its line of the drawing."""

    layer: Any  # has name, type, bottoms, tops
    reads: list[int]
    makes: list[int]
    drawn: str = ""


@dataclass
class Drawing:
    """The layers of a net in order, with what connects them; `inputs` are versions without a layer."""

    rows: list[Row] = field(default_factory=list)
    inputs: list[tuple[str, int]] = field(default_factory=list)
    last_reader: dict[int, int] = field(default_factory=dict)


def draw(inputs: Iterable[str], layers: Sequence[Any]) -> Drawing:
    """The drawing of layers that have `bottoms` and `tops`; bottoms that nothing makes count as inputs."""
    drawing, current = Drawing(), {}
    count = 0

    def version(blob: str) -> int:
        nonlocal count
        current[blob] = count
        count += 1
        return current[blob]

    for name in inputs:
        drawing.inputs.append((name, version(name)))
    for index, layer in enumerate(layers):
        reads = []
        for blob in layer.bottoms:
            if blob not in current:
                drawing.inputs.append((blob, version(blob)))
            reads.append(current[blob])
        drawing.last_reader |= dict.fromkeys(reads, index)
        drawing.rows.append(Row(layer, reads, [version(blob) for blob in layer.tops]))
    _draw_lines(drawing)
    return drawing


def _draw_lines(drawing: Drawing) -> None:
    """Give each row its line: a lane for every version that is still to be read."""
    lanes: list[int | None] = [version for _, version in drawing.inputs if version in drawing.last_reader]
    for index, row in enumerate(drawing.rows):
        reading = [lanes.index(version) for version in dict.fromkeys(row.reads) if version in lanes]
        ending = [lane for lane in reading if drawing.last_reader[lanes[lane]] == index]  # type: ignore[index]
        before = list(lanes)
        for lane in ending:
            lanes[lane] = None
        place = min(ending) if ending else _free(lanes)
        row.drawn = _line(before, place, reading, ending)
        lanes.extend([None] * (place + 1 - len(lanes)))
        for number, version in enumerate(each for each in row.makes if each in drawing.last_reader):
            lane = place if number == 0 else _free(lanes)
            lanes.extend([None] * (lane + 1 - len(lanes)))
            lanes[lane] = version
        while lanes and lanes[-1] is None:
            lanes.pop()


def _free(lanes: list[int | None]) -> int:
    return lanes.index(None) if None in lanes else len(lanes)


def _line(lanes: list[int | None], place: int, reading: list[int], ending: list[int]) -> str:
    """One line: the node at `place`, the lanes it reads joined to it, the other lanes passing."""
    width = max(len(lanes), place + 1)
    first, last = min([place, *reading]), max([place, *reading])
    cells = []
    for lane in range(width):
        if lane == place:
            mark = "●"
        elif lane in reading:
            turn = "╰" if lane < place else "╯"
            through = "├" if lane == first else "┤" if lane == last else "┼"
            mark = turn if lane in ending else through
        else:
            busy = lane < len(lanes) and lanes[lane] is not None
            mark = "│" if busy else "─" if first < lane < last else " "
        cells.append(mark + ("─" if first <= lane < last else " "))
    return "".join(cells).rstrip()
