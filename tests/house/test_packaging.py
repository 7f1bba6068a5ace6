"""setup.cfg and constraints.txt: everything that is imported is required, and everything that is read is packed."""

from __future__ import annotations

import re
import sys
from configparser import ConfigParser
from fnmatch import fnmatch
from pathlib import Path

import pytest
from house import FILES, PACKAGES, ROOT, imported

# Where an import and its distribution have different names.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-python",
    "google": "protobuf",
    "onnxruntime": "onnxruntime-gpu",
    "skimage": "scikit-image",
}
CONFIG = ConfigParser()
CONFIG.read(ROOT / "setup.cfg", encoding="utf-8")


def names(requirements: str) -> set[str]:
    return {re.split(r"[<>=]", line)[0] for line in requirements.split("\n") if line}


REQUIRED = names(CONFIG["options"]["install_requires"])
EXTRAS = {extra: names(value) for extra, value in CONFIG["options.extras_require"].items()}


def packed(path: Path) -> bool:
    """Whether a pattern of package_data takes a file (path below the root); * does not cross folders."""
    for package, patterns in CONFIG["options.package_data"].items():
        for home in path.parents if package == "*" else [Path(*package.split("."))]:
            if home == Path(".") or not path.is_relative_to(home):
                continue
            parts = path.relative_to(home).parts
            for pattern in (each.strip() for each in re.split(r"[\n,]", patterns) if each.strip()):
                wanted = pattern.split("/")
                if len(wanted) == len(parts) and all(map(fnmatch, parts, wanted)):
                    return True
    return False


def test_everything_imported_is_required():
    found = {name for path in FILES for name in imported(path)} - set(sys.stdlib_module_names) - PACKAGES
    wanted = {DISTRIBUTIONS.get(name, name) for name in found}
    assert wanted - REQUIRED == {"pycocotools", "safetensors", "tensorboard"}, "optional: they have an extra"
    assert {"pycocotools"} == EXTRAS["coco"] and {"tensorboard"} == EXTRAS["train"]
    assert wanted >= REQUIRED, "nothing is required for nothing"


def test_every_requirement_has_a_tested_version():
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all("==" in pin for pin in pins)
    # torchvision is never needed, and which build fits depends on the user's PyTorch.
    tested = [requirements for extra, requirements in EXTRAS.items() if extra != "vision"]
    assert names("\n".join(pins)) == REQUIRED.union(*tested)


def test_every_data_file_is_packed():
    data = [path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file()]
    # Training logs are evidence, kept in the repository alone; nothing reads them.
    data = [path for path in data if path.suffix not in (".py", ".pyc") and path.parent.name != "logs"]
    assert not [str(path) for path in data if not packed(path)]
    assert len([path for path in data if path.name == "py.typed"]) == len(PACKAGES)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("reference_weights/miniatures/models/seed0/net.caffemodel", True),
        ("reference_weights/miniatures/models/net.caffemodel", False),
        ("verify/tables/new.tsv", True),
        ("prototxt_gen/nets/new.tsv", False),
        ("port/py.typed", True),
    ],
)
def test_the_patterns_are_read_as_setuptools_does(path, expected):
    assert packed(Path(path)) is expected
