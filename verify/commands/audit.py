"""python -m verify audit: the paper's claims beside what the nets and the tables give."""

from __future__ import annotations

import argparse
import json
from typing import Any

from prototxt_gen import paper
from prototxt_gen.base.columns import columns
from prototxt_gen.base.command import OK

EXAMPLES = """\
  python -m verify audit
  python -m verify audit --json"""


def add(verbs: Any) -> None:
    """Add the command and its arguments."""
    parser = verbs.add_parser("audit", help="the paper's claims, computed", description=run.__doc__)
    parser.set_defaults(run=run)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")


def run(arguments: argparse.Namespace) -> int:
    """Print next to each claim of the paper that can be computed what the nets give, and check its tables."""
    from ..tables.audit import f1_checks, labels_per_image, subset_checks
    from ..tables.claims import Nets, audit_nets, size_rows

    nets = Nets()
    findings, sizes = audit_nets(nets), size_rows(nets)
    f1, subsets, labels = list(f1_checks()), list(subset_checks()), list(labels_per_image())
    if arguments.json:
        print(_json(findings, sizes, f1, subsets, labels))
        return OK
    print("The paper's claims, and the nets of each profile\n")
    for finding in findings:
        print(f"{finding.section:>4}  {finding.claim}")
        print(f"        paper says  {finding.stated}")
        for profile, value in _merged(finding.found):
            print(f"        {profile:<18}  {value}")
        print(f"        -> {finding.verdict}")
    print("\nAll nets, 80 labels, one image of 224x224\n")
    print("\n".join(columns(sizes, right=range(2, 6))))
    print("\nThe tables: F1 beside the harmonic mean of the precision and recall printed with it\n")
    print("\n".join(columns(_f1_rows(f1), right=(3, 4, 5, 6))))
    print()
    print(_summary(f1, subsets, labels))
    return OK


def _merged(found: dict[str, str]) -> list[tuple[str, str]]:
    """Profiles that give the same, together."""
    values = dict.fromkeys(found.values())
    return [(", ".join(p for p, each in found.items() if each == value), value) for value in values]


def _f1_rows(checks: list) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("table", "method", "figure", "P", "R", "printed", "harmonic", "so it is")]
    for each in checks:
        numbers = (f"{each.precision:.1f}", f"{each.recall:.1f}", f"{each.printed:.1f}", f"{each.harmonic:.2f}")
        rows.append((str(each.table), each.method, each.kind, *numbers, each.verdict))
    return rows


def _summary(f1: list, subsets: list, labels: list) -> str:
    """The findings of the tables in a few sentences."""
    overall = [each for each in f1 if each.kind.startswith("F1-O")]
    bad = [each for each in overall if each.verdict != "consistent"]
    classes = [each for each in f1 if each.kind.startswith("F1-C")]
    by_verdict: dict[str, list[str]] = {}
    for each in classes:
        methods = by_verdict.setdefault(each.verdict, [])
        methods += [each.method] if each.method not in methods else []
    named = "".join(
        f": all but {each.method} in Table {each.table}, {each.kind} {each.printed:.1f} for {each.harmonic:.2f}"
        for each in bad
    )
    counts = [value for _, value in labels]
    return "\n".join(
        [
            f"F1-O: {len(overall) - len(bad)} of {len(overall)} follow from P-O and R-O within rounding{named}.",
            *(f"F1-C is the {verdict} in the rows of {', '.join(names)}." for verdict, names in by_verdict.items()),
            f"Top three of Table 2, R-O@3 no larger than R-O: {sum(s.consistent for s in subsets)} of {len(subsets)}.",
            f"Labels per image on NUS-WIDE from Table 1, 3 P-O@3 / R-O@3: {min(counts):.2f} to {max(counts):.2f};"
            f" the paper says {paper.DATASETS['nus_wide'].labels_per_image}.",
            "Labels per image on MS-COCO: the paper says 2.9 where it describes the data set, 3.5 in a comparison.",
        ]
    )


def _json(findings: list, sizes: list, f1: list, subsets: list, labels: list) -> str:
    title, *rows = sizes
    checks = [
        {
            "table": each.table,
            "method": each.method,
            "figure": each.kind,
            "printed": each.printed,
            "harmonic": round(each.harmonic, 4),
            "verdict": each.verdict,
        }
        for each in f1
    ]
    data = {
        "claims": [finding.data() for finding in findings],
        "nets": [dict(zip(title, row, strict=True)) for row in rows],
        "f1": checks,
        "top_three": [{"method": s.method, "consistent": s.consistent} for s in subsets],
        "labels_per_image": {method: round(value, 4) for method, value in labels},
    }
    return json.dumps(data, indent=2)
