"""From scored items to a `Reading` with its interval, and from readings to a `MetricValue`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from unlearn_cli.evaluation import Bootstrap, Direction, Floats, Ids, MetricValue, Reading, Role
from unlearn_cli.statistics import (
    Interval,
    Part,
    effective_clusters,
    mean_of_present,
    percentile_interval,
    pooled_mean,
    resampled_means,
    resampled_medians,
    wilson,
)

Combine = Callable[[Floats], Floats]  # means of the parts [..., K] -> one value [...]

NOT_FINITE = "the edited model's probabilities are not finite"


def skipped(unit: str, direction: Direction, reason: str) -> MetricValue:
    """A value that is undefined, and why."""
    return MetricValue(edited=None, unit=unit, direction=direction, status="skipped", reason=reason)


def measured(
    edited: Reading | None,
    unit: str,
    direction: Direction,
    *,
    base: Reading | None = None,
    gold: Reading | None = None,
    reason: str | None = None,
    undefined: str = NOT_FINITE,
) -> MetricValue:
    """A value; skipped, with `undefined` as the reason, when the edited model has none."""
    if edited is None:
        return skipped(unit, direction, undefined)
    return MetricValue(edited, unit, direction, base, gold, reason=reason)


def with_items(value: MetricValue, parts: Mapping[Role, Sequence[Part]], rows: Ids) -> MetricValue:
    """Keep every item's value of the roles that have one, for `rows`, the one split that the value is about."""
    readings = {role: getattr(value, role) for role in parts}
    items = {role: found[0].values for role, found in parts.items() if readings[role]}
    return replace(value, items=items, rows=rows) if items else value


def mean_reading(
    parts: Sequence[Part], bootstrap: Bootstrap, *, proportion: bool = False, combine: Combine = mean_of_present
) -> Reading | None:
    """Combine the parts' pooled means, by default their unweighted mean.

    None without parts, with items that are not finite, or where `combine` yields NaN.

    `proportion` says that the combined value is a share of items: where resampling cannot show its uncertainty (one
    item per subject, or a value of exactly 0 or 1) the interval is Wilson's, on the number of subjects.
    """
    if not _finite(parts):
        return None
    value = float(combine(np.array([pooled_mean(part) for part in parts])))
    if not np.isfinite(value):
        return None
    clusters = effective_clusters(parts)
    ci: Interval | None
    if proportion and (value in (0, 1) or _one_yes_or_no_each(parts)):
        ci = wilson(value * clusters, clusters, bootstrap.level)
    else:
        ci = percentile_interval(combine(resampled_means(parts, bootstrap)), clusters, bootstrap.level)
    return Reading(value, _items(parts), ci)


def median_reading(parts: Sequence[Part], bootstrap: Bootstrap) -> Reading | None:
    """Unweighted mean of the parts' medians. None without parts or with infinite items."""
    if not _finite(parts):
        return None
    draws = mean_of_present(resampled_medians(parts, bootstrap))
    ci = percentile_interval(draws, effective_clusters(parts), bootstrap.level)
    return Reading(float(np.mean([np.median(part.values) for part in parts])), _items(parts), ci)


def difference(a: Reading | None, b: Reading | None) -> Reading | None:
    """a - b with Newcombe's (1998) hybrid interval, which keeps a width where a or b is exactly 0 or 1."""
    if a is None or b is None:
        return None
    value = a.value - b.value
    if a.ci is None or b.ci is None:
        return Reading(value, a.n + b.n)
    low = value - math.hypot(a.value - a.ci[0], b.ci[1] - b.value)
    high = value + math.hypot(a.ci[1] - a.value, b.value - b.ci[0])
    return Reading(value, a.n + b.n, (low, high))


def _finite(parts: Sequence[Part]) -> bool:
    return bool(parts) and all(np.isfinite(part.values).all() for part in parts)


def _one_yes_or_no_each(parts: Sequence[Part]) -> bool:
    """Whether it is a plain sample of yes and no: one part, every subject asked once."""
    one = len(parts) == 1 and len(np.unique(parts[0].cluster)) == len(parts[0].cluster)
    return one and bool(np.isin(parts[0].values, (0.0, 1.0)).all())


def _items(parts: Sequence[Part]) -> int:
    return sum(len(part.values) for part in parts)
