"""From a score of each probe to a `MetricValue`: what metrics of one number per split share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from unlearn_cli.evaluation import Direction, Evaluation, MetricValue, Role, Split
from unlearn_cli.metrics.probing import ROLES, Score, scored
from unlearn_cli.metrics.readings import NOT_FINITE, Combine, mean_reading, measured, with_items
from unlearn_cli.statistics import mean_of_present

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unlearn_cli.evaluation import Bootstrap
    from unlearn_cli.statistics import Part


def valued(
    evaluation: Evaluation,
    splits: Sequence[Split],
    score: Score,
    unit: str,
    direction: Direction,
    *,
    proportion: bool = False,
    roles: Sequence[Role] = ROLES,
    reason: str | None = None,
) -> MetricValue:
    """The unweighted mean over `splits`, none of them empty, of the mean score; items kept if there is one split."""
    parts = {role: scored(evaluation, role, splits, score) for role in roles}
    value = from_parts(parts, evaluation.bootstrap, unit, direction, proportion=proportion, reason=reason)
    return with_items(value, parts, splits[0].rows) if len(splits) == 1 else value


def from_parts(
    parts: Mapping[Role, Sequence[Part]],
    bootstrap: Bootstrap,
    unit: str,
    direction: Direction,
    *,
    proportion: bool = False,
    combine: Combine = mean_of_present,
    reason: str | None = None,
    undefined: str = NOT_FINITE,
) -> MetricValue:
    """A value of each role's parts; `combine` is computed anew within each resample."""
    read = {
        role: mean_reading(found, bootstrap, proportion=proportion, combine=combine) for role, found in parts.items()
    }
    return measured(
        read["edited"],
        unit,
        direction,
        base=read.get("base"),
        gold=read.get("gold"),
        reason=reason,
        undefined=undefined,
    )
