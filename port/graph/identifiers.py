"""Names that Python and torch can hold, for blobs and layers whose own they could not."""

from __future__ import annotations

import keyword
import re


def identifier(name: str) -> str:
    """A Python identifier that resembles a Caffe name."""
    text = re.sub(r"\W", "_", name, flags=re.ASCII) or "_"
    return f"_{text}" if text[0].isdigit() or keyword.iskeyword(text) or text == "self" else text


def placeholders(blobs: list[str]) -> dict[str, str]:
    """An identifier for every input, each its own."""
    names: dict[str, str] = {}
    for blob in blobs:
        name = identifier(blob)
        while name in names.values():
            name += "_"
        names[blob] = name
    return names


def submodule_paths(names: list[str], reserved: set[str]) -> dict[str, str]:
    """A path for every layer: its own name, dots as torch's nesting, unless torch cannot hold it or needs it itself."""
    reserved = reserved.union(keyword.kwlist)
    # fx writes paths into Python source: nothing that ends a string or that Python would normalise
    plain = {name: re.sub(r'["\\]|[^ -~]', "_", name) for name in names}
    folders = {folder for path in plain.values() for folder in _folders(path)}
    paths: dict[str, str] = {}
    taken: set[str] = set()
    for name, path in plain.items():
        parts = path.split(".")
        if not all(parts) or reserved.intersection(parts) or not taken.union(plain.values()).isdisjoint(_folders(path)):
            path = path.replace(".", "_") + ("" if "." in path else "_")
        while path in taken or path in folders or path in reserved or not path:
            path += "_"
        paths[name] = path
        taken.add(path)
    return paths


def _folders(path: str) -> list[str]:
    """What a path nests under: a and a.b of a.b.c."""
    parts = path.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]
