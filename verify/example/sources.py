"""What results were computed with: the project's own files, in one hash."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

PACKAGES = ("prototxt_gen", "reference_weights", "port", "verify")
_CODE = (".py", ".tsv", ".toml")


@cache
def package_digest() -> str:
    """The sha256 of all code and data of the project's packages; any change makes another."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*")):
            if path.suffix in _CODE:
                digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()
