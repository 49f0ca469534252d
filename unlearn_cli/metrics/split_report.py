"""What an edit did to the requested facts, and what to the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from unlearn_cli.component import component
from unlearn_cli.evaluation import Direction, Evaluation, Floats, MetricValue, Reading, Role
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.probing import correct, scored, splits_of, why_empty
from unlearn_cli.metrics.readings import difference, mean_reading, measured, skipped
from unlearn_cli.statistics import Part, mean_of_present

UNIT = "share"


@component
class SplitReport(Metric):
    """Drops of exact-match accuracy from the base to the edited model.

    forget_drop = drop on the requested facts; collateral = mean over unseen must-not-change splits of max(drop, 0);
    selectivity = forget_drop - collateral. Facts that the base did not know cannot drop and dilute both, so by
    default they are left out; splits are never pooled, since their sizes differ widely.
    """

    VERSION: ClassVar[int] = 1
    needs: ClassVar[frozenset[Role]] = frozenset({"base", "edited"})

    known_only: bool = True  # count only items that the base knows

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`split_report/<forget_drop|collateral|selectivity>`; n counts known items."""
        drop = self._value(evaluation, "forget")
        collateral = self._value(evaluation, "retain/unseen")
        return {
            "split_report/forget_drop": drop,
            "split_report/collateral": collateral,
            "split_report/selectivity": _selectivity(drop, collateral),
        }

    def _value(self, evaluation: Evaluation, name: str) -> MetricValue:
        direction: Direction = "to_gold" if name == "forget" else "lower"
        if not splits_of(evaluation.probes, name):
            return skipped(UNIT, direction, why_empty(evaluation.probes, name))
        read = {role: self._reading(evaluation, role, name) for role in ("edited", "gold")}
        if read["edited"] is None:
            return skipped(UNIT, direction, f"the base knows no item of {name}")
        return measured(read["edited"], UNIT, direction, gold=read["gold"])

    def _reading(self, evaluation: Evaluation, role: Role, name: str) -> Reading | None:
        splits = splits_of(evaluation.probes, name)
        before, after = (scored(evaluation, r, splits, correct) for r in ("base", role))
        parts = []
        for old, new in zip(before, after, strict=False):  # `after` is empty without that role
            kept = old.values == 1 if self.known_only else np.ones(len(old.values), dtype=bool)
            parts.append(Part((old.values - new.values)[kept], old.cluster[kept]))
        combine = mean_of_present if name == "forget" else _mean_loss
        return mean_reading(
            [part for part in parts if len(part.values)],
            evaluation.bootstrap,
            proportion=self.known_only,
            combine=combine,
        )


def _mean_loss(drops: Floats) -> Floats:
    """A split that gained must not hide one that lost."""
    return mean_of_present(np.maximum(drops, 0.0))


def _selectivity(drop: MetricValue, collateral: MetricValue) -> MetricValue:
    for value in (drop, collateral):
        if value.edited is None:
            return skipped(UNIT, "higher", str(value.reason))
    return measured(
        difference(drop.edited, collateral.edited), UNIT, "higher", gold=difference(drop.gold, collateral.gold)
    )
