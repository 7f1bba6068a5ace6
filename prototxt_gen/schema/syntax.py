"""Protobuf's text format as a tree, without any schema: the first of the two steps of reading a prototxt.

Follows the C++ parser that Caffe uses: `#` comments, optional `:` before a block, `{ }` or `< >`, lists
`[a, b]`, `,` or `;` between fields, adjacent string literals joined. Linear in the length of the text.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn

from ..base.errors import ParseError, Problem

MAX_DEPTH = 100  # Caffe's schema is 7 levels deep; protobuf's own limit for binary messages is 100

_CLOSERS = {"{": "}", "<": ">"}

# Possessive quantifiers throughout: no input makes the scan go back.
_TOKEN = re.compile(
    r"(?:[ \t\n\r\v\f]++|\#[^\n]*+)*+"  # white space and comments
    r"(?:(?P<word>[A-Za-z_]\w*+)"
    r"|(?P<number>0[xX][0-9a-fA-F]++|(?:\d++\.?+\d*+|\.\d++)(?:[eE][+-]?+\d++)?+[fF]?+)"
    r"""|(?P<string>"(?:[^"\\\n]++|\\[^\n])*+"|'(?:[^'\\\n]++|\\[^\n])*+')"""
    r"|(?P<symbol>.)"
    r"|(?P<end>\Z))",
    re.ASCII | re.DOTALL,
)

_ESCAPE = re.compile(
    r"\\(?:u(?P<high>[dD][89abAB]H{2})\\u(?P<low>[dD][c-fC-F]H{2})|u(?P<u4>H{4})|U(?P<u8>H{8})"
    r"|(?P<octal>[0-3]?[0-7]{1,2})|[xX](?P<hex>H{1,2})|(?P<other>.))".replace("H", "[0-9a-fA-F]"),
    re.DOTALL,
)
_SIMPLE_ESCAPES = dict(zip("abfnrtv\\?'\"", "\a\b\f\n\r\t\v\\?'\"", strict=True))


@dataclass(frozen=True)
class Source:
    """A text with the name of its file, to turn offsets into lines and columns."""

    text: str
    file: str = ""

    @cached_property
    def _line_starts(self) -> list[int]:
        return [0, *(match.end() for match in re.finditer("\n", self.text))]

    def place(self, at: int) -> tuple[int, int]:
        """The line and the column, both from 1, of an offset into the text."""
        line = bisect_right(self._line_starts, at)
        return line, at - self._line_starts[line - 1] + 1

    def problem(self, at: int, found: str, **parts: str) -> Problem:
        """A `Problem` at an offset into the text."""
        line, column = self.place(at)
        return Problem(found, file=self.file, line=line, column=column, **parts)


@dataclass(slots=True)
class Scalar:
    """A value that is no block: `kind` is `string`, `number` or `word`; a minus sign is part of `text`.

    Of a string, `text` is what it means (bytes that are not UTF-8 stand as surrogate escapes).
    """

    kind: str
    text: str
    at: int


@dataclass(slots=True)
class Field:
    """One entry `name: value`; several values, or none, only where it was written as a list `[ ]`."""

    name: str
    at: int
    values: list[Scalar | Tree]
    listed: bool = False


@dataclass(slots=True)
class Tree:
    """The fields of one block in the order of the file, and the text they stand in."""

    source: Source
    at: int
    fields: list[Field]

    def place(self, at: int) -> tuple[int, int]:
        """The line and the column, both from 1, of an offset (`at` of a field, value or tree)."""
        return self.source.place(at)

    def first(self, name: str) -> str:
        """The text of the first scalar under `name`, or "" if there is none."""
        for field in self.fields:
            if field.name == name and field.values and isinstance(field.values[0], Scalar):
                return field.values[0].text
        return ""


def printable(text: str) -> str:
    """A text from a file as it may stand in a message: one line, not too long, writable as UTF-8."""
    text = text if len(text) <= 60 else text[:57] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def parse_tree(text: str, file: str = "") -> Tree:
    """The tree of a text in protobuf's text format; raises ParseError with line and column."""
    return _Parser(Source(text, file)).parse()


class _Parser:
    def __init__(self, source: Source):
        self.source = source
        self.matches: Iterator[re.Match] = _TOKEN.finditer(source.text)
        # The open blocks: the tree, how it was opened, and the field that it is a value of.
        self.open: list[tuple[Tree, str, Field | None]] = []
        self.advance()

    def parse(self) -> Tree:
        root = tree = Tree(self.source, 0, [])
        self.open.append((root, "", None))
        while True:
            tree, opener, owner = self.open[-1]
            if self.kind == "word":
                self.field(tree)
            elif owner is not None and self.text == _CLOSERS[opener]:
                self.advance()
                self.open.pop()
                if not self.complete(owner):
                    self.values(owner)
            elif self.kind == "end" and owner is None:
                return root
            else:
                self.fail_at_field(tree, opener, owner)

    def advance(self) -> None:
        match = next(self.matches)
        self.kind: str = match.lastgroup or "end"
        self.text: str = match[self.kind]
        self.at: int = match.start(self.kind)

    def take(self, symbol: str) -> bool:
        if self.text == symbol:
            self.advance()
            return True
        return False

    def field(self, tree: Tree) -> None:
        """One field from its name on, up to its end or to the start of its first block."""
        field = Field(self.text, self.at, [])
        tree.fields.append(field)
        self.advance()
        colon = self.take(":")
        if self.text == "[" and self.kind == "symbol":
            self.advance()
            field.listed = True
            if self.take("]"):
                self.separator()
                return
        if not colon and self.text not in _CLOSERS:
            fix = "write ':' instead of '='" if self.text == "=" else ""
            self.fail(f"':' or '{{' after '{field.name}'", fix)
        self.values(field)

    def values(self, field: Field) -> None:
        """The values of a field, up to its end or to the start of a block."""
        while True:
            if self.text in _CLOSERS:
                tree = Tree(self.source, self.at, [])
                field.values.append(tree)
                self.open.append((tree, self.text, field))
                if len(self.open) > MAX_DEPTH:
                    self.fail(f"at most {MAX_DEPTH} levels of blocks")
                self.advance()
                return
            field.values.append(self.scalar(field))
            if self.complete(field):
                return

    def complete(self, field: Field) -> bool:
        """After a value: whether the field ends here."""
        if field.listed and not self.take("]"):
            if not self.take(","):
                self.fail(f"',' or ']' in the list '{field.name}'")
            return False
        self.separator()
        return True

    def separator(self) -> None:
        if self.text in (",", ";"):
            self.advance()

    def scalar(self, field: Field) -> Scalar:
        at = self.at
        if self.kind == "string":
            parts = []
            while self.kind == "string":
                parts.append(self.unescaped())
                self.advance()
            return Scalar("string", "".join(parts), at)
        sign = "-" if self.take("-") else ""
        if self.kind not in ("number", "word"):
            fixes = {"+": "leave the '+' out", **dict.fromkeys("“”„‘’", "write plain quotes")}
            fixes["$"] = "in a template write the value in its place"
            self.fail(f"a value for '{field.name}'", fixes.get(self.text, ""))
        scalar = Scalar(self.kind, sign + self.text, at)
        end = self.at + len(self.text)
        if self.kind == "number" and _is_word(self.source.text[end : end + 1]):
            self.fail("white space between a number and a name")
        self.advance()
        return scalar

    def unescaped(self) -> str:
        """The meaning of the string literal at hand."""
        body = self.text[1:-1]
        if "\\" not in body:
            return body
        data, done = bytearray(), 0
        for match in _ESCAPE.finditer(body):
            data += body[done : match.start()].encode("utf-8", "surrogateescape")
            try:
                data += _escape(match)
            except (KeyError, ValueError, OverflowError):
                self.at += 1 + match.start()
                self.fail(
                    'an escape such as \\n, \\", \\\\, \\303 or \\xc3',
                    found=f"'{printable(match[0])}' in a string",
                )
            done = match.end()
        data += body[done:].encode("utf-8", "surrogateescape")
        return data.decode("utf-8", "surrogateescape")

    def fail_at_field(self, tree: Tree, opener: str, owner: Field | None) -> NoReturn:
        if owner is None:
            if self.text in ("}", ">"):
                self.fail("a field name", "remove it, or look for a '}' too many above")
        elif self.kind == "end":
            line, _ = self.source.place(tree.at)
            self.fail(f"'{_CLOSERS[opener]}' for the '{opener}' of '{owner.name}' in line {line}")
        fixes = {"/": "comments start with '#'", "[": "Caffe's schema has no extensions"}
        expected = "a field name" + (f" or '{_CLOSERS[opener]}'" if opener else "")
        self.fail(expected, fixes.get(self.text, ""))

    def fail(self, expected: str, fix: str = "", found: str = "") -> NoReturn:
        if self.text in ("'", '"') and self.kind == "symbol":
            found, expected, fix = "a string that does not end in its line", f"a closing {self.text}", ""
        text = printable(self.text)
        names = {"end": "the end of the text", "string": f"the string {text}"}
        found = found or names.get(self.kind, f"'{text}'")
        raise ParseError(self.source.problem(self.at, found, expected=expected, fix=fix))


def _is_word(character: str) -> bool:
    return character == "_" or (character.isascii() and character.isalpha())


def _escape(match: re.Match) -> bytes:
    """The bytes that one escape sequence stands for; raises ValueError, OverflowError or KeyError."""
    if match["high"]:
        high, low = int(match["high"], 16), int(match["low"], 16)
        return chr(0x10000 + ((high & 0x3FF) << 10) + (low & 0x3FF)).encode()
    if code := match["u4"] or match["u8"]:
        return chr(int(code, 16)).encode()
    if match["octal"]:
        return bytes([int(match["octal"], 8)])
    if match["hex"]:
        return bytes([int(match["hex"], 16)])
    return _SIMPLE_ESCAPES[match["other"]].encode()
