"""How many layers are drawn, and always the same ones."""

from __future__ import annotations

from hypothesis import HealthCheck, settings


def repeatable(examples: int) -> settings:
    """Settings that draw the same `examples` in every run and on every machine, however long each takes."""
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
