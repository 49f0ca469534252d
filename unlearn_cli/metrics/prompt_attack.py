"""What attacks by the prompt add: they say nothing where even the base cannot answer such prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from unlearn_cli.evaluation import Evaluation, MetricValue
from unlearn_cli.metrics.attack import AttackMetric, Budget

LEAST_KNOWN = 0.5  # of what must not change, by the base under the attack
ROWS: dict[Budget, int] = {"small": 200, "paper": 1000}  # most prompts of a split that are asked


class PromptAttack(AttackMetric):
    """Skipped where the base under the same attack knows less than half of the unseen facts that must not change.

    A model that was trained on single sentences may fail behind any context: what it cannot say there is not forgotten.
    """

    needs: ClassVar = frozenset({"edited", "base"})

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """The attack's values, or why they mean nothing."""
        return readable(super().compute(evaluation), self.label)


def readable(values: Mapping[str, MetricValue], label: str) -> Mapping[str, MetricValue]:
    """`values`, or all of them skipped where the base's share under attack is below LEAST_KNOWN."""
    asked = values.get(f"{label}/retain")
    base = asked.base if asked else None
    if base is None or base.value >= LEAST_KNOWN:
        return values
    reason = f"asked like this the base itself knows {base.value:.2f} of what must not change, below {LEAST_KNOWN}"
    return {name: unreadable(value, reason) for name, value in values.items()}


def unreadable(value: MetricValue, reason: str) -> MetricValue:
    """The same value, skipped."""
    return replace(value, edited=None, base=None, gold=None, status="skipped", reason=reason, items={}, rows=None)
