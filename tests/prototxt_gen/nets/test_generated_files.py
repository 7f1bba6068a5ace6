"""All generated files together: one command, the same bytes every time, each strictly of its dialect."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from generated import GOLDEN, NETWORKS, PROFILES

from prototxt_gen import training_files
from prototxt_gen.__main__ import main
from prototxt_gen.base.command import run
from prototxt_gen.base.errors import ParseError
from prototxt_gen.nets import DATASETS
from prototxt_gen.schema.dialect import LAYER_TYPES
from prototxt_gen.schema.messages import DIALECTS
from prototxt_gen.schema.text import read_prototxt

FILES = GOLDEN / "files"  # the layout of write --all
GOLDENS = sorted(path.relative_to(FILES) for path in FILES.rglob("*") if path.is_file())
COUNT = 738  # 18 folders for each network; test net, two scripts, and two files for each step
SECONDS = 30  # the target; of processor time, since other processes may use the machine

WRITE = """
import sys, time
from prototxt_gen.__main__ import main
start = time.process_time()
status = main(["write", "--all", sys.argv[1]])
print(f"{time.process_time() - start:.1f} s", file=sys.stderr)
sys.exit(status or 3 * (time.process_time() - start > float(sys.argv[2])))
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, Path]:
    """Two runs of write --all at once, in processes with different hash seeds."""
    folders, children = [], []
    for seed in ("1", "2"):
        folders.append(tmp_path_factory.mktemp(f"all{seed}"))
        line = [sys.executable, "-c", WRITE, str(folders[-1]), str(SECONDS)]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        children.append(
            subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    for child in children:
        out, err = child.communicate()
        assert child.returncode == 0, f"{out}{err}"
        assert (
            out.startswith(f"wrote {COUNT} files below ") and "3 profiles, 2 dialects, 5 networks, 3 data sets" in out
        )
    return folders[0], folders[1]


def files_below(folder: Path) -> dict[str, Path]:
    return {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}


def test_one_command_writes_the_same_bytes_twice(written):
    first, second = map(files_below, written)
    assert list(first) == list(second) and len(first) == COUNT
    assert [name for name in first if first[name].read_bytes() != second[name].read_bytes()] == []
    executable = {name for name, path in first.items() if os.access(path, os.X_OK)}
    assert executable == {name for name in first if name.endswith(".sh")}


def test_everything_is_there(written):
    found = {path.relative_to(written[0]).parts[:4] for path in files_below(written[0]).values()}
    assert found == {
        (profile, dialect, network.file, dataset)
        for profile in PROFILES
        for dialect in DIALECTS
        for network in NETWORKS.values()
        for dataset in DATASETS
    }


def distinct(folder: Path, dataset: str = "") -> Iterator[Path]:
    """The prototxts below a folder, those of equal content once."""
    seen: set[bytes] = set()
    for name, path in files_below(folder).items():
        if name.endswith(".prototxt") and dataset in path.parent.name and path.read_bytes() not in seen:
            seen.add(path.read_bytes())
            yield path


def check_dialect(path: Path) -> None:
    """A file is read by its own dialect, of which it has the layer types, and not by the other."""
    dialect = path.parts[-4]
    kind = "SolverParameter" if path.name.endswith("solver.prototxt") else "NetParameter"
    parsed = read_prototxt(path, kind)
    assert parsed.dialect == dialect, f"{path}: detected as {parsed.dialect}"
    if kind == "NetParameter":
        assert {layer.type for layer in parsed.message.layer} <= LAYER_TYPES[dialect]
    (other,) = set(DIALECTS) - {dialect}
    assert not parsed.packs and not fits(path, kind, other)


def fits(path: Path, kind: str, dialect: str) -> bool:
    """Whether a file is of a dialect and uses nothing that only other forks have."""
    try:
        return not read_prototxt(path, kind, dialect).packs
    except ParseError:
        return False


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_files_are_strictly_of_their_dialect(written, profile, dialect):
    paths = list(distinct(written[0] / profile / dialect, "wider_att"))
    # a test net for each network, and nine steps with a net and a solver each
    assert len(paths) == 5 + 2 * 9
    for path in paths:
        check_dialect(path)


@pytest.mark.slow
def test_all_files_are_strictly_of_their_dialect(written):
    for path in distinct(written[0]):
        check_dialect(path)


# Golden copies


def test_there_are_golden_copies_of_each_kind():
    parts = [path.parts for path in GOLDENS]
    assert len(GOLDENS) >= 12
    assert {each[0] for each in parts} == set(PROFILES) and {each[1] for each in parts} == set(DIALECTS)
    assert {each[2] for each in parts} == {network.file for network in NETWORKS.values()}
    assert {each[3] for each in parts} == set(DATASETS)
    assert {Path(each[4]).suffix for each in parts} == {".prototxt", ".sh"}


@pytest.mark.parametrize("golden", GOLDENS, ids=str)
def test_the_files_are_the_golden_copies(golden):
    profile, dialect, file, dataset, name = golden.parts
    (network,) = (name for name, each in NETWORKS.items() if each.file == file)
    text = training_files(network, dataset, profile=profile, dialect=dialect)[name]
    accept = "python -m prototxt_gen write --all DIR, and copy the file from there"
    assert text.encode() == (FILES / golden).read_bytes(), f"if the change is meant: {accept}"


@pytest.mark.parametrize("golden", [path for path in GOLDENS if "step_2" in path.name or path.suffix == ".sh"], ids=str)
def test_the_command_in_the_header_makes_the_file(golden, tmp_path):
    (line,) = (x for x in (FILES / golden).read_text().splitlines() if x.startswith("# Made by: "))
    words = shlex.split(line.removeprefix("# Made by: "))
    assert words[:4] == ["python", "-m", "prototxt_gen", "write"]
    assert main([*words[3:], "--output", str(tmp_path)]) == 0
    assert (tmp_path / golden.name).read_bytes() == (FILES / golden).read_bytes()


# The command


def command(capsys, *arguments: str) -> tuple[int, str, str]:
    status = run(main, list(arguments))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_all_files_of_one_network(tmp_path, capsys):
    status, out, _ = command(
        capsys, "write", "--training", "--network", "ResNet-101-semantic", "--dataset", "nus_wide", "--gpus", "2",
        "--epochs", "3", "--classes", "7", "--output", str(tmp_path / "out"),
    )  # fmt: skip
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert status == 0 and sorted(Path(line.removeprefix("wrote ")).name for line in out.splitlines()) == names
    assert len(names) == 1 + 2 * 3 + 2
    text = (tmp_path / "out/step_2_resnet101_semantic_solver.prototxt").read_text()
    assert "--gpus 2 --epochs 3" in text and "--classes 7" in text


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        ("", ["--network is missing; expected one of: ResNet-101, ResNet-107, "]),
        (
            "--all DIR --network ResNet-101 --dialect srn --weights seed:7",
            [
                "--network does not go with --all, which writes every one of them",
                "--dialect does not go with --all",
                "--weights does not go with --all",
            ],
        ),
        (
            "--training --network ResNet-101 --output DIR/x.prototxt --weights seed:7",
            ["x.prototxt is one file; expected a folder, with --training", "--weights does not go with --training"],
        ),
        (
            "--network ResNet-101 --gpus 2 --epochs 3 --output DIR",
            ["--gpus does nothing for a test net. Add --training", "--epochs does nothing for a test net"],
        ),
        (
            "--training --network ResNet-101 --gpus 7 --profile release --output DIR",
            [
                "--profile release is not possible; expected one of: paper, postact, released. Did you mean",
                "--gpus 7 is not possible; expected one of: 1, 2, 3, 4, 6, 8, ",
            ],
        ),
    ],
)
def test_options_that_do_not_go_together(arguments, messages, tmp_path, capsys):
    status, out, err = command(capsys, "write", *arguments.replace("DIR", str(tmp_path)).split())
    lines = err.splitlines()
    assert (status, out, len(lines)) == (2, "", len(messages))
    assert all(message in line for message, line in zip(messages, lines, strict=True)), err
    assert not list(tmp_path.iterdir()), "nothing is written"
