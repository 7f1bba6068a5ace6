"""The log is one that Caffe's own tools (tools/extra) read: their rules, written anew, on the log of a run."""

from __future__ import annotations

import re
import shutil
from datetime import datetime
from pathlib import Path

import pytest
from training_runs import SIMPLE, log_of, table, write_run

from port.training import Options, train


@pytest.fixture(scope="module", params=["bvlc", "srn"])
def finished(request, tmp_path_factory):
    """A folder with a run: displays at 0, 2, ... 10, tests at 0, 4, 8, 12."""
    folder = tmp_path_factory.mktemp(request.param)
    assert train(write_run(folder, request.param, solver='lr_policy: "exp" gamma: 0.1'), SIMPLE) == 0
    return folder


# ---- extract_seconds.py and parse_log.py


def moment(line: str) -> datetime:
    """When a line was written: month and day glued behind one letter, then a clock with a fraction."""
    day, clock = line.strip().split()[:2]
    whole, _, fraction = clock.rpartition(".")
    hour, minute, second = (int(part) for part in whole.split(":"))
    return datetime(2026, int(day[1:3]), int(day[3:]), hour, minute, second, int(fraction))


Row = dict[str, float]


def parsed(lines: list[str]) -> dict[str, list[Row]]:
    """The two tables that parse_log.py makes of a log: a row is done when it is as wide as the first one."""
    start = moment(next(line for line in lines if "Solving" in line))
    rows: dict[str, list[Row]] = {"Train": [], "Test": []}
    opened: dict[str, Row | None] = {"Train": None, "Test": None}
    iteration, rate = -1.0, float("nan")
    for line in lines:
        if found := re.search(r"Iteration (\d+)", line):
            iteration = float(found[1])
        if iteration == -1:
            continue
        seconds = (moment(line) - start).total_seconds()
        if found := re.search(r"lr = ([-+]?[0-9]*\.?[0-9]+([eE]?[-+]?[0-9]+)?)", line):
            rate = float(found[1])
        for kind in rows:
            opened[kind] = taken(rows[kind], opened[kind], kind, line, (iteration, seconds, rate))
    return rows


def taken(rows: list[Row], row: Row | None, kind: str, line: str, at: tuple[float, ...]) -> Row | None:
    """One line's part in a table; the row that is still open."""
    if found := re.search(kind + r" net output #(\d+): (\S+) = ([\.\deE+-]+)", line):
        if row is None or row["NumIters"] != at[0]:
            rows.extend([row] if row else [])
            row = dict(zip(("NumIters", "Seconds", "LearningRate"), at, strict=True))
        row[found[2]] = float(found[3])
    if row and rows and len(row) == len(rows[0]):
        rows.append(row)
        return None
    return row


def test_parse_log_py(finished):
    found = parsed(log_of(finished))
    for kind, name, count in (("Train", "train", 6), ("Test", "test", 3)):  # it drops the first table's open row
        held = table(finished / "run" / f"tiny.{name}.csv")[: len(found[kind])]
        assert len(found[kind]) >= count
        assert [row["NumIters"] for row in found[kind]] == [int(row["NumIters"]) for row in held]
        assert [row["loss"] for row in found[kind]] == pytest.approx([float(row["loss"]) for row in held], rel=1e-5)
        assert set(found[kind][0]) == {"NumIters", "Seconds", "LearningRate", "loss"}
        assert 0 <= found[kind][0]["Seconds"] <= found[kind][-1]["Seconds"] < 600
    # The rate stands behind the outputs, so each row has the one before: the tool knows that of the first only.
    rates = [row["LearningRate"] for row in found["Train"][1:]]
    assert rates == pytest.approx([0.05 * 0.1**i for i in (0, 2, 4, 6, 8)][: len(rates)])


def test_every_line_has_glogs_head(finished):
    head = re.compile(r"[IWEF]\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ \S+:\d+\] \S|.*\]     \S")
    lines = log_of(finished)
    assert len(lines) > 30 and all(head.match(line) and moment(line) for line in lines)
    assert any(re.search(r"output #0: loss = \S+ \(\* 0\.5 = \S+ loss\)$", line) for line in lines)


# ---- parse_log.sh: grep, sed and awk by fields


def column(line: str, number: int) -> str:
    """awk's field of a line, counted from 1."""
    return line.split()[number - 1]


def with_line_before(lines: list[str], text: str) -> list[str]:
    """grep -B 1."""
    hits = [i for i, line in enumerate(lines) if text in line]
    return [lines[i] for i in sorted({j for i in hits for j in (i - 1, i)})]


def number_of(line: str) -> int:
    """sed's iteration of a line."""
    return int(re.sub(r".*Iteration (\d*).*", r"\1", line))


def test_parse_log_sh_tests(finished):
    lines = log_of(finished)
    part = with_line_before(lines, "Test ")
    iterations = [number_of(line) for line in part if "Iteration " in line]
    values = [float(column(line, 11)) for line in part if "Test net output #0" in line]
    assert len([line for line in lines if "] Solving " in line]) == 1
    assert len([line for line in lines if "Testing net" in line]) == len(iterations) == len(values) == 4
    held = table(finished / "run" / "tiny.test.csv")
    assert iterations == [int(row["NumIters"]) for row in held]
    assert values == pytest.approx([float(row["loss"]) for row in held], rel=1e-5)


def test_parse_log_sh_training(finished):
    lines = log_of(finished)
    shown = [line for line in lines if ", loss = " in line]
    rates = [line for line in lines if ", lr = " in line]
    held = table(finished / "run" / "tiny.train.csv")
    # One more loss than rates: Caffe shows the loss after the last update too.
    assert [number_of(line) for line in shown] == [*(int(row["NumIters"]) for row in held), 12]
    assert [float(column(line, 9)) for line in shown][:-1] == pytest.approx(
        [float(row["SmoothedLoss"]) for row in held], rel=1e-5
    )
    assert [float(column(line, 9)) for line in rates] == pytest.approx(
        [float(row["LearningRate"]) for row in held], rel=1e-5
    )


def test_a_resumed_runs_log_is_read_too(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "same")
    text = (finished / "solver.prototxt").read_text().replace(str(finished), str(tmp_path / "same"))
    solver = tmp_path / "same" / "solver.prototxt"
    solver.write_text(text)
    train(solver, Options(workers=0, resume=tmp_path / "same" / "run" / "tiny_iter_10.solverstate"))
    rows = parsed(log_of(tmp_path / "same"))
    assert [row["NumIters"] for row in rows["Test"]][-1] == 12
    assert [row["Seconds"] for row in rows["Test"]] == sorted(row["Seconds"] for row in rows["Test"])


@pytest.mark.parametrize("damage", ["seconds", "head", "order"])
def test_the_rules_see_a_log_that_the_tools_would_misread(finished, damage):
    lines = log_of(finished)
    if damage == "seconds":
        lines = [line.replace(".", " ", 1) for line in lines]
    elif damage == "head":
        lines = [line.split("] ", 1)[1] for line in lines]
    else:  # the iteration after the outputs
        lines = [line for line in lines if "Testing net" not in line]
        assert [number_of(line) for line in with_line_before(lines, "Test ") if "Iteration " in line] != [0, 4, 8, 12]
        return
    with pytest.raises((ValueError, IndexError)):
        parsed(lines)


def test_no_path_of_the_run_breaks_a_line(finished):
    assert all(Path(line.split()[-1]).suffix for line in log_of(finished) if "Snapshotting" in line)
