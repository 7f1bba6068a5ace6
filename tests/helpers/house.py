"""The project's own files: what each imports, wherever and however it does."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"prototxt_gen", "port", "verify", "reference_weights"}
FILES = [path for package in sorted(PACKAGES) for path in sorted((ROOT / package).rglob("*.py"))]


@dataclass(frozen=True)
class Import:
    """A module, or a name of one, that a file imports; `kind`: at once, lazily in a function, or for types only."""

    name: str
    line: int
    kind: str = "at once"


def module_name(path: Path) -> str:
    """The module that a file of the project is."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str, place: tuple[str, ...]) -> Iterator[Import]:
    """All imports of a source text; `place`: its path below the root. A name `a.b` may be b of the module a."""
    yield from _walk(ast.parse(source), place, "at once")


def _walk(node: ast.AST, place: tuple[str, ...], kind: str) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        inside = kind
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            inside = "lazily"
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            inside = "for types"
        yield from (Import(name, child.lineno, inside) for name in _names(child, place))
        yield from _walk(child, place, inside)


def _names(node: ast.AST, place: tuple[str, ...]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        # a package's file counts itself: level 1 is its own folder
        home = [] if not node.level else list(place[: -node.level])
        base = ".".join([*home, *([node.module] if node.module else [])])
        yield from (f"{base}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call):
        called = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if called in ("import_module", "__import__"):
            yield from (a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str))


def imported(path: Path) -> dict[str, int]:
    """Top-level names that a file imports anywhere in it, with a line; relative imports are its own package."""
    found = imports(path.read_text(encoding="utf-8"), path.relative_to(ROOT).parts)
    return {each.name.partition(".")[0]: each.line for each in found}


def module_imports() -> dict[str, dict[str, Import]]:
    """Module of the project -> the modules of the project that it imports, each with how."""
    known = {module_name(path): path for path in FILES}
    result: dict[str, dict[str, Import]] = {}
    for name, path in known.items():
        result[name] = {}
        for each in imports(path.read_text(encoding="utf-8"), path.relative_to(ROOT).parts):
            target = each.name if each.name in known else each.name.rpartition(".")[0]
            if target in known and target != name:
                result[name].setdefault(target, each)
    return result


def circles(edges: Mapping[str, Mapping[str, Import]]) -> list[list[str]]:
    """Groups of modules that import one another, however far round (strongly connected components)."""
    order: list[str] = []
    seen: set[str] = set()

    def visit(start: str, towards: Mapping[str, Mapping[str, Import]], found: list[str]) -> None:
        stack = [(start, iter(towards[start]))]
        seen.add(start)
        while stack:
            following = next((each for each in stack[-1][1] if each not in seen), None)
            if following is None:
                found.append(stack.pop()[0])
            else:
                seen.add(following)
                stack.append((following, iter(towards[following])))

    for name in edges:
        if name not in seen:
            visit(name, edges, order)
    back: dict[str, dict[str, Import]] = {name: {} for name in edges}
    for name, targets in edges.items():
        for target, how in targets.items():
            back[target][name] = how
    seen.clear()
    groups = []
    for name in reversed(order):
        if name not in seen:
            groups.append([])
            visit(name, back, groups[-1])
    return [sorted(group) for group in groups if len(group) > 1]
