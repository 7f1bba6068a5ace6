"""Which layers of a net file exist in a given state (phase, level, stages)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prototxt_gen.base.errors import Problems, UsageError
from prototxt_gen.schema.messages import PHASES
from prototxt_gen.schema.printer import to_text


@dataclass(frozen=True)
class NetState:
    """Phase, level and stages of a net (Caffe: NetState)."""

    phase: str = "TEST"
    level: int = 0
    stages: tuple[str, ...] = ()

    def __post_init__(self):
        if self.phase not in PHASES:
            raise UsageError(f"phase '{self.phase}'; expected {' or '.join(PHASES)}")

    def __str__(self) -> str:
        stages = f", stage {', '.join(self.stages)}" if self.stages else ""
        return f"phase {self.phase}" + (f", level {self.level}" if self.level else "") + stages


def rules_of(layer: Any) -> str:
    """A layer's include and exclude rules on one line, as in its file."""
    rules = [("include", rule) for rule in layer.include] + [("exclude", rule) for rule in layer.exclude]
    return " ".join(f"{name} {{ {' '.join(to_text(rule).split())} }}" for name, rule in rules)


def phase_name(value: int) -> str:
    """TRAIN or TEST for the schema's number."""
    return PHASES[value]


def meets(state: NetState, rule: Any) -> bool:
    """Whether a state meets a NetStateRule: all its given parts hold (Net::StateMeetsRule)."""
    return (
        (not rule.HasField("phase") or phase_name(rule.phase) == state.phase)
        and (not rule.HasField("min_level") or state.level >= rule.min_level)
        and (not rule.HasField("max_level") or state.level <= rule.max_level)
        and all(stage in state.stages for stage in rule.stage)
        and not any(stage in state.stages for stage in rule.not_stage)
    )


def kept_layers(net: Any, state: NetState, problems: Problems, lines: list[int]) -> list[int]:
    """Indices of the layers that exist in a state (Net::FilterNet)."""
    kept = []
    for index, layer in enumerate(net.layer):
        if len(layer.include) and len(layer.exclude):
            problems.add(
                "both include and exclude rules",
                expected="one kind",
                layer=layer.name,
                line=lines[index] if index < len(lines) else 0,
            )
        elif len(layer.include):
            if any(meets(state, rule) for rule in layer.include):
                kept.append(index)
        elif not any(meets(state, rule) for rule in layer.exclude):
            kept.append(index)
    return kept
