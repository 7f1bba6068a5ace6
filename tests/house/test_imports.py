"""The packages import one way, prototxt_gen <- port <- verify, in no circle, and nothing heavy before it is used."""

from __future__ import annotations

import subprocess
import sys
from configparser import ConfigParser

import pytest
from house import FILES, PACKAGES, ROOT, Import, circles, imported, imports, module_imports

from prototxt_gen.base.door import GROUP

MAY_IMPORT = {
    "prototxt_gen": set(),
    "port": {"prototxt_gen"},
    "reference_weights": {"prototxt_gen", "port"},
    "verify": {"prototxt_gen", "port", "reference_weights"},
}
# What a package must not need: the heavy ones, and what only tests have.
NEVER = {"prototxt_gen": {"torch", "onnx", "onnxruntime", "cv2", "skimage"}}
TEST_ONLY = {"pytest", "hypothesis", "tests", "conftest"}


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
        ("import port.net", ("prototxt_gen", "x.py"), {"port.net": "at once"}),
        ("from verify import net", ("port", "x.py"), {"verify.net": "at once"}),
        ("def f():\n    import torch.nn as nn", ("prototxt_gen", "x.py"), {"torch.nn": "lazily"}),
        ("class A:\n    def f(self):\n        from .b import c", ("port", "x.py"), {"port.b.c": "lazily"}),
        (
            "from . import a\nfrom .b import c\nfrom ..d import e",
            ("port", "layers", "x.py"),
            {"port.layers.a": "at once", "port.layers.b.c": "at once", "port.d.e": "at once"},
        ),
        ("from ..verify import net", ("port", "x.py"), {"verify.net": "at once"}),
        ("def f():\n    import_module('verify.net')", ("port", "x.py"), {"verify.net": "lazily"}),
        ("import_module(f'.{home}', __name__)", ("port", "x.py"), {}),
        ("if TYPE_CHECKING:\n    from verify.net import N", ("port", "x.py"), {"verify.net.N": "for types"}),
    ],
)
def test_the_check_sees_every_kind_of_import(source, place, names):
    assert {each.name: each.kind for each in imports(source, place)} == names


def test_no_module_imports_itself_by_a_way_round():
    """At once, lazily or for types: a circle of any kind ties its files together."""
    edges = module_imports()
    assert len(edges) == len(FILES) and sum(map(len, edges.values())) > 1000
    found = circles(edges)
    shown = [f"{a} -> {b} ({edges[a][b].kind})" for group in found for a in group for b in edges[a] if b in group]
    assert not found, "\n".join(shown)


@pytest.mark.parametrize("kind", ["at once", "lazily", "for types"])
def test_a_circle_of_any_kind_is_seen(kind):
    """Closed by one import more between real modules, and between three made-up ones."""
    edges = module_imports()
    edges["port.graph.graph"]["port.onnx.builder"] = Import("port.onnx.builder", 1, kind)
    assert circles(edges) == [["port.graph.graph", "port.onnx.builder"]]
    ring = {"a": {"b": Import("b", 1)}, "b": {"c": Import("c", 1, kind)}, "c": {"a": Import("a", 1)}, "d": {}}
    assert circles(ring) == [["a", "b", "c"]] and not circles(ring | {"c": {}})


def entry_points(text: str) -> dict[str, list[str]]:
    """Group -> the modules that a setup.cfg offers under it."""
    config = ConfigParser()
    config.read_string(text)
    groups = config["options.entry_points"].items() if config.has_section("options.entry_points") else ()
    return {group: [line.partition("=")[2].strip() for line in lines.split("\n") if line] for group, lines in groups}


def upward(groups: dict[str, list[str]]) -> list[str]:
    """Entry points by which a package could call one that it may not import: the group bears the caller's name."""
    return [
        f"{group}: {target}"
        for group, targets in groups.items()
        for target in targets
        if (caller := group.partition(".")[0]) in PACKAGES
        and target.partition(".")[0] in PACKAGES - MAY_IMPORT[caller] - {caller}
    ]


def test_no_entry_point_leads_upwards():
    text = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    assert not upward(entry_points(text))
    worse = text + "\n[options.entry_points]\nprototxt_gen.measure =\n    port = port.graph.count:measure\n"
    assert upward(entry_points(worse)) == ["prototxt_gen.measure: port.graph.count:measure"]


def test_the_only_group_that_is_read_is_the_door_for_layers():
    """And this project offers nothing through it: its own layers are found in their folder."""
    readers = [path for path in FILES if "entry_points(" in path.read_text(encoding="utf-8")]
    assert [str(path.relative_to(ROOT)) for path in readers] == ["prototxt_gen/base/door.py"]
    assert not entry_points((ROOT / "setup.cfg").read_text(encoding="utf-8")).get(GROUP)


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
