"""The packages import one way: prototxt_gen <- port <- verify, and the first of them without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"prototxt_gen", "port", "verify", "reference_weights"}
MAY_IMPORT = {
    "prototxt_gen": set(),
    "port": {"prototxt_gen"},
    "reference_weights": {"prototxt_gen", "port"},
    "verify": {"prototxt_gen", "port", "reference_weights"},
}
# What a package must not need: the heavy ones, and what only tests have.
NEVER = {"prototxt_gen": {"torch", "onnx", "onnxruntime", "cv2", "skimage"}}
TEST_ONLY = {"pytest", "hypothesis", "tests", "conftest"}


def imported(path: Path) -> dict[str, int]:
    """Top-level names that a file imports anywhere in it, with a line; relative imports are its own package."""
    return imported_names(path.read_text(encoding="utf-8"), path.relative_to(ROOT).parts)


def imported_names(source: str, place: tuple[str, ...]) -> dict[str, int]:
    found: dict[str, int] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # a package's file counts itself: level 1 is its own folder
            home = [] if not node.level else list(place[: -node.level])
            names = [".".join([*home, node.module or ""])]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in (
            "import_module",
            "__import__",
        ):
            names = [a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        else:
            continue
        found |= {name.partition(".")[0]: node.lineno for name in names if name.partition(".")[0]}
    return found


FILES = [path for package in sorted(PACKAGES) for path in sorted((ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path):
    package = path.relative_to(ROOT).parts[0]
    names = imported(path)
    wrong = set(names) & (PACKAGES - MAY_IMPORT[package] - {package} | NEVER.get(package, set()) | TEST_ONLY)
    assert not wrong, "; ".join(f"{path}:{names[name]} imports {name}" for name in sorted(wrong))


def test_every_package_is_looked_at():
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == PACKAGES and len(FILES) > 60


@pytest.mark.parametrize(
    ("source", "place", "names"),
    [
        ("import port.net", ("prototxt_gen", "x.py"), {"port"}),
        ("from verify import net", ("port", "x.py"), {"verify"}),
        ("def f():\n    import torch.nn as nn", ("prototxt_gen", "x.py"), {"torch"}),
        ("from . import a\nfrom .b import c\nfrom ..d import e", ("port", "layers", "x.py"), {"port"}),
        ("from ..verify import net", ("port", "x.py"), {"verify"}),
        ("import_module('verify.net')", ("port", "x.py"), {"verify"}),
        ("import_module(f'.{home}', __name__)", ("port", "x.py"), set()),
        ("if TYPE_CHECKING:\n    from verify.net import NetReport", ("port", "x.py"), {"verify"}),
    ],
)
def test_the_check_sees_every_kind_of_import(source, place, names):
    assert set(imported_names(source, place)) == names


def loaded_after(statement: str) -> set[str]:
    """Top-level modules of a fresh interpreter after a statement."""
    code = f"import sys\n{statement}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_generator_imports_no_torch():
    loaded = loaded_after(
        "import prototxt_gen, prototxt_gen.__main__\n"
        "prototxt_gen.net_text('ResNet-SRN', width_divisor=8)\n"
        "prototxt_gen.__main__.main(['list'])"
    )
    assert not loaded & {"torch", "onnx", "onnxruntime", "cv2", "skimage", "port", "verify"}


def test_reading_weights_imports_no_torch():
    loaded = loaded_after("import port, port.caffemodel\nfrom port.caffemodel import read_caffemodel")
    assert "numpy" in loaded and not loaded & {"torch", "onnx", "onnxruntime", "cv2"}


def test_help_imports_no_torch():
    """So that it comes at once."""
    for package in ("port", "verify", "reference_weights"):
        loaded = loaded_after(
            f"from {package}.__main__ import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass"
        )
        assert package in loaded and "torch" not in loaded


HEAVY = ("torch", "cv2", "onnx", "onnxruntime", "skimage", "scipy", "PIL")


def test_to_evaluate_a_scores_file_takes_numpy_alone(tmp_path):
    """With what could be shown beside the table, but pictures; the names of port.scoring load torch when used."""
    (tmp_path / "scores.txt").write_text("1.5 -2.5\n-0.5 3.5\n")
    (tmp_path / "labels.txt").write_text("1 0\n1 1\n")
    code = f"""
import sys
from verify.tables import command
files = ["--scores", "scores.txt", "--labels", "labels.txt"]
assert command.main(2, [*files, "--definitions", "--bootstrap", "2", "--per-class", "c.csv"]) == 1
loaded = [name for name in {HEAVY} if name in sys.modules]
assert not loaded, loaded
import port.scoring
assert all(hasattr(port.scoring, name) for name in port.scoring.__all__) and "torch" in sys.modules
"""
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "0 of 13 figures reproduced" in done.stdout
