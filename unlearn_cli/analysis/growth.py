"""Growing requests: scalability (all facts at once) and sustainability (one after another), after MUSE.

Shi et al. 2024 (arXiv 2407.06460), criteria 5 and 6. Slopes are per natural logarithm of the number of facts. The facts
of a larger request are another draw, not the smaller one's and more, so a curve is over requests of that size.
Sustainability: the curves of `edit.schedule=sequential` beside `batch`; and within one sequential run, whether the
facts of earlier requests are better known than those of later ones (`relapse`), read from the last model alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unlearn_cli.analysis.runs import Run, grouped
from unlearn_cli.analysis.seeds import Summary, summarize
from unlearn_cli.evaluation import Floats, Ids

SEQUENTIAL = "edit.schedule=sequential"
LEAST = 4  # requests in a row that have an earlier and a later half


@dataclass(frozen=True)
class Curve:
    """One metric of one method by the size of the request."""

    name: str  # method, setting, schedule
    key: str
    unit: str
    sizes: list[int]  # facts, ascending
    points: list[Summary]  # over seeds
    slope: Summary | None  # per ln(facts), over seeds; None with one size

    @property
    def largest(self) -> Summary:
        """The value at the largest request."""
        return self.points[-1]


def curves(runs: Sequence[Run], key: str) -> list[Curve]:
    """A curve for each method, setting and schedule that was run with several sizes."""
    return [
        curve
        for name, members in grouped(runs, _name).items()
        if (curve := _curve(name, members, key)) is not None and len(curve.sizes) > 1
    ]


def slope(sizes: Sequence[int], values: Sequence[float]) -> float | None:
    """Least squares against ln(size); None with fewer than two sizes."""
    x = np.log(np.asarray(sizes, dtype=float))
    if len(set(sizes)) < 2:
        return None
    centred = x - x.mean()
    return float(centred @ np.asarray(values, dtype=float) / (centred @ centred))


def relapse(values: Floats, order: Ids) -> float | None:
    """Knowledge of the facts requested in the earlier half less that of the later half; None with too few requests.

    `values` [n] are the items' knowledge under the last model and `order` [n] the place of each item's request.
    Positive: what was forgotten first is coming back, or the first requests were forgotten less.
    """
    requests = np.unique(order)
    if len(requests) < LEAST:
        return None
    early = order < requests[len(requests) // 2]
    return float(values[early].mean() - values[~early].mean())


def relapse_of(run: Run, key: str) -> float | None:
    """The same of a sequential run, whose requests come in the order of their fact numbers."""
    table = run.items()
    metric, _, split = key.partition("/")
    if table is None or SEQUENTIAL not in run.size:
        return None
    mine = (table["metric"] == metric) & (table["split"] == split) & (table["role"] == "edited")
    return relapse(table["value"][mine], table["fact"][mine])


def _name(run: Run) -> str:
    one_by_one = ["sequential"] if SEQUENTIAL in run.size else []
    return " ".join([run.bench, "|", run.row, *one_by_one])


def _curve(name: str, runs: Sequence[Run], key: str) -> Curve | None:
    found = [
        (int(run.result.request["facts"]), run.seed, value) for run in runs if (value := _value(run, key)) is not None
    ]
    if not found:
        return None
    sizes = sorted({size for size, _, _ in found})
    points = [summarize([value for size, _, value in found if size == wanted]) for wanted in sizes]
    slopes = []
    for seed in sorted({seed for _, seed, _ in found}):
        own = [(size, value) for size, other, value in found if other == seed]
        fitted = slope([size for size, _ in own], [value for _, value in own])
        slopes += [] if fitted is None else [fitted]
    unit = str(runs[0].result.metrics[key]["unit"])
    return Curve(name.partition("| ")[2], key, unit, sizes, points, summarize(slopes) if slopes else None)


def _value(run: Run, key: str) -> float | None:
    value = run.value(key)
    return None if value is None or not math.isfinite(value) else value
