"""What a folder holds of a release, what is missing and where it was published, and what could be run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prototxt_gen.base.command import BAD_INPUT, CHECK_FAILED, OK
from reference_weights import manifest
from reference_weights.manifest import Found, ReleasedFile

from ..tables import PublishedTable

# What each part of the run takes; of the index where the manifest has one for the data set.
PARTS: dict[str, tuple[str, ...]] = {
    "the authors' scores against the paper": ("scores", "labels", "index"),
    "the net against the authors' scores, image by image": ("prototxt", "caffemodel", "image_list", "index", "scores"),
    "the net's scores against the paper": ("prototxt", "caffemodel", "image_list", "index", "labels"),
}
WITH_IMAGES = tuple(PARTS)[1:]
USED = {role for roles in PARTS.values() for role in roles}


@dataclass(frozen=True)
class Stock:
    """The files of one data set in a folder: those present with size and hash, those missing."""

    root: Path
    table: PublishedTable
    present: list[tuple[ReleasedFile, Found]]
    missing: list[ReleasedFile]
    image_root: Path | None

    @property
    def wrong(self) -> list[Found]:
        """Present files that contradict the manifest, or are empty."""
        return [found for _, found in self.present if found.mismatch]

    @property
    def status(self) -> int:
        """0 when every part can be run, 1 when a file is missing, 2 when one is not what it should be."""
        if self.wrong:
            return BAD_INPUT
        return OK if not self.missing and self._images_there() else CHECK_FAILED

    def lacking(self, part: str) -> list[str]:
        """What a part of the run lacks, as paths; empty when it can be run."""
        absent = [file.path for file in self.missing if file.role in PARTS[part]]
        if part in WITH_IMAGES and not self._images_there():
            absent.append(f"--image-root with the images: {manifest.images_from(self.table.key)}")
        return absent

    def _images_there(self) -> bool:
        return self.image_root is not None and self.image_root.is_dir()

    def data(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "table": self.table.number,
            "dataset": self.table.dataset,
            "root": str(self.root),
            "present": [
                {"path": file.path, "bytes": f.bytes, "sha256": f.sha256, "wrong": f.mismatch}
                for file, f in self.present
            ],
            "missing": [
                {
                    "path": file.path,
                    "purpose": file.purpose,
                    "page": file.archive.page,
                    "drive": file.archive.drive_url,
                    "baidu": file.archive.baidu or None,
                    "unpack_to": file.archive.unpack_to,
                }
                for file in self.missing
            ],
            "images_from": manifest.images_from(self.table.key),
            "runs": {part: self.lacking(part) for part in PARTS},
            "status": self.status,
        }

    def render(self, style: str) -> str:
        """For a terminal or as Markdown, which has the same lines in code blocks."""
        blocks = [(f"{self.table.dataset} under {self.root}", self._present())]
        if self.missing:
            blocks.append((f"missing: {len(self.missing)}", manifest.describe(self.missing).splitlines()))
            if misplaced := self._misplaced():
                blocks.append(("not in their places, perhaps", misplaced))
        blocks.append(("what can be run", self._runs()))
        if style == "markdown":
            return "\n\n".join("\n".join([f"### {title}", "", "```", *lines, "```"]) for title, lines in blocks)
        return "\n\n".join("\n".join([title, *lines]) for title, lines in blocks)

    def _present(self) -> list[str]:
        lines = []
        for file, found in self.present:
            wrong = f"  WRONG: {found.mismatch}" if found.mismatch else ""
            lines.append(f"  {file.path}  {found.bytes:,} bytes  sha256 {found.sha256}{wrong}")
        return lines or ["  no released file by the authors' names"]

    def _misplaced(self) -> list[str]:
        pairs = [(file, found) for file in self.missing for found in manifest.elsewhere(file, self.root)]
        return [f"  {found}  is wanted as  {self.root / file.path}" for file, found in pairs]

    def _runs(self) -> list[str]:
        lines = []
        for part in PARTS:
            absent = self.lacking(part)
            lines.append(f"  {'no ' if absent else 'yes'}  {part}")
            lines += [f"         lacks {path}" for path in absent]
        return lines


def take_stock(root: Path, table: PublishedTable, image_root: Path | None = None) -> Stock:
    """Look into a folder, hash what is there; raises DataError when `root` is no folder or a file is unreadable."""
    missing = [file for file in manifest.missing(root, table.key) if file.role in USED]
    present = [(file, found) for file in needed(table) for found in manifest.inspect(file, root)]
    return Stock(root, table, present, missing, image_root)


def needed(table: PublishedTable) -> Sequence[ReleasedFile]:
    """The released files that a table takes."""
    return [file for file in manifest.load(table.key) if file.role in USED]
