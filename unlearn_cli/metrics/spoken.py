"""From free-running answers to a `MetricValue`: what metrics on generated tokens share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from unlearn_cli.evaluation import Arrays, Direction, Evaluation, Floats, MetricValue, Role
from unlearn_cli.metrics.probing import ROLES, splits_of, why_empty
from unlearn_cli.metrics.readings import skipped, with_items
from unlearn_cli.metrics.valuing import from_parts
from unlearn_cli.observations.answered import Answered
from unlearn_cli.statistics import Part

Told = Callable[
    [Arrays], Floats
]  # the arrays of one set of one model -> a value of each answer; NaN: no answer to score


def direction_of(evaluation: Evaluation, name: str) -> Direction:
    """Of knowing what a split or aggregate asks."""
    split = evaluation.probes.splits.get(name)
    return split.direction if split else "higher"


def parts_of(evaluation: Evaluation, asked: Answered, role: Role, names: Sequence[str], told: Told) -> list[Part]:
    """Each answer's value, averaged over the role's models, one part for each of the sets `names` that has answers."""
    models, parts = evaluation.seen(asked, role), []
    for name in names if models else ():
        chosen = models[0]["set"] == asked.sets.index(name)
        rows = models[0]["rows"][chosen]
        values = np.mean([told({key: array[chosen] for key, array in model.items()}) for model in models], axis=0)
        kept = ~np.isnan(values)
        if kept.any():
            parts.append(Part(values[kept], evaluation.probes.cluster[rows[kept]]))
    return parts


def spoken(
    evaluation: Evaluation,
    asked: Answered,
    name: str,
    told: Told,
    unit: str,
    direction: Direction | None = None,
    undefined: str = "there is no answer to score",
) -> MetricValue:
    """The mean over the answers of one set."""
    direction = direction_of(evaluation, name) if direction is None else direction
    if not splits_of(evaluation.probes, name):
        return skipped(unit, direction, why_empty(evaluation.probes, name))
    if not evaluation.seen(asked, "edited"):
        return skipped(unit, direction, "no answer was generated")
    parts = {role: parts_of(evaluation, asked, role, [name], told) for role in ROLES}
    value = from_parts(parts, evaluation.bootstrap, unit, direction, proportion=unit == "share", undefined=undefined)
    arrays = evaluation.seen(asked, "edited")[0]
    rows = arrays["rows"][arrays["set"] == asked.sets.index(name)]
    whole = all(not found or len(found[0].values) == len(rows) for found in parts.values())
    return with_items(value, parts, rows) if value.status == "ok" and whole else value
