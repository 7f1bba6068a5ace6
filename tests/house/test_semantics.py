"""docs/semantics.md: every section that code, tests and pages cite is there, once, and names what it is cited for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from house import FILES, ROOT

from port.layers import REGISTRY

PAGE = (ROOT / "docs" / "semantics.md").read_text(encoding="utf-8")
TESTS = sorted((ROOT / "tests").rglob("*.py"))
PAGES = sorted((ROOT / "docs").glob("*.md"))

NUMBER = r"\d+(?:\.\d+)*"
JOINT = r"(?:,\s+(?:and\s+)?|\s+(?:and|to)\s+)(?:#\s+)?"  # a list may go on in the next line of a comment
CITATION = re.compile(rf"\bsemantics\s+(?:#\s+)?({NUMBER}(?:{JOINT}{NUMBER})*)", re.IGNORECASE)
UNCITED = {"HDF5Output"}  # it computes nothing here, so no rule of Caffe's is followed


def citations(text: str) -> list[str]:
    """The numbers of all sections that a text cites; of a range both ends."""
    return [number for found in CITATION.findall(text) for number in re.findall(NUMBER, found)]


def sections(page: str) -> list[str]:
    """The numbers of the page's headings, in its order: "## 2. Nets" and "### 2.4 Implicit Split layers"."""
    return re.findall(rf"^#{{2,3}} ({NUMBER})\.? ", page, re.MULTILINE)


def section(page: str, number: str) -> str:
    """The text of a section, a chapter's with all sections in it; "" where there is none."""
    start = re.search(rf"^(##+) {re.escape(number)}\.? ", page, re.MULTILINE)
    if start is None:
        return ""
    end = re.compile(rf"^#{{2,{len(start[1])}}} ", re.MULTILINE).search(page, start.end())
    return page[start.start() : end.start() if end else None]


def missing(texts: Mapping[str, str], page: str) -> list[str]:
    """Place and number of every citation of a section that the page does not have."""
    known = set(sections(page))
    return [f"{place}: {number}" for place, text in texts.items() for number in citations(text) if number not in known]


def twice(page: str) -> list[str]:
    """The numbers that more than one heading has."""
    return [number for number, times in Counter(sections(page)).items() if times > 1]


def read(paths: list[Path]) -> dict[str, str]:
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}


def anchor(heading: str) -> str:
    """What a link to a heading says, by GitHub's rule."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_cited_section_is_there():
    assert not missing(read([*FILES, *TESTS, *PAGES]), PAGE)


def test_citations_are_found():
    """So that the test above does not pass because nothing is looked at."""
    counts = [sum(len(citations(text)) for text in read(paths).values()) for paths in (FILES, TESTS, PAGES)]
    assert sum(counts) > 100 and all(counts)


def test_no_number_stands_twice():
    assert not twice(PAGE)


def test_sections_stand_in_order_in_their_chapters():
    numbers = [tuple(map(int, number.split("."))) for number in sections(PAGE)]
    assert numbers == sorted(numbers) and len(numbers) > 70
    chapters = {number[0] for number in numbers if len(number) == 1}
    assert {number[0] for number in numbers} == chapters == set(range(11))


def test_every_layer_cites_a_section_that_names_it():
    own = {name: cls for name, cls in REGISTRY.items() if cls.__module__.startswith("port.layers.") and not cls.pack}
    wrong = [
        name
        for name, cls in own.items()
        if not any(re.search(rf"\b{name}\b", section(PAGE, number)) for number in citations(cls.__doc__ or ""))
    ]
    assert set(wrong) == UNCITED and len(own) > 60


def test_links_within_the_page_lead_to_headings():
    targets = set(re.findall(r"\]\(#([^)]+)\)", PAGE))
    assert targets <= {anchor(heading) for heading in re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)}
    assert targets >= {anchor(heading) for heading in re.findall(r"^## (.+)$", PAGE, re.MULTILINE)}  # the contents


def test_citations_are_read_in_every_form():
    assert citations("x; semantics 1.13 (relu_layer).") == ["1.13"]
    assert citations("Semantics 5. And (semantics\n# 0, 1.7, and 1.13)") == ["5", "0", "1.7", "1.13"]
    assert citations("semantics 1.6 to 1.9, 1.13; semantics 2.7 and 1.6") == ["1.6", "1.9", "1.13", "2.7", "1.6"]
    assert citations("the semantics: 3 rules, semantics of 2.7, [semantics](semantics.md)") == []


def test_the_checks_see_what_is_wrong():
    # put together here, so that the test above does not find them in this file
    absent = ["1.99", "1.13.1", "77"]
    assert missing({"made_up.py": f"semantics {', '.join(absent)} and 1.13"}, PAGE) == [
        f"made_up.py: {n}" for n in absent
    ]
    without = PAGE.replace("### 1.13 ", "### ")
    assert without != PAGE and "1.13" not in sections(without) and section(without, "1.13") == ""
    assert missing(read(FILES), without)
    assert twice(f"{PAGE}\n### 1.13 Once more\n") == ["1.13"]
    assert "Swish" not in section(PAGE, "1.14") and "## 6." not in section(PAGE, "5")
