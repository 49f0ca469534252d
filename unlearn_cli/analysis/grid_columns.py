"""The cells of a table: mean over seeds with its interval, the best of a column, and which are not shown to differ.

A row is tested against the best of its column and panel by the paired permutation test of `exchanged`; Holm's
correction is over the rows. Metrics that are no mean of stored items are tested by the signs of the seeds' differences
if there are six seeds: fewer cannot reach 0.05. The best is chosen by the same numbers, so with many rows it is
flattered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unlearn_cli.analysis.compare import ALPHA, LEAST_SEEDS
from unlearn_cli.analysis.exchanged import p_value
from unlearn_cli.analysis.grid import Cell, Grid, Place
from unlearn_cli.analysis.paired import holm, sign_flip
from unlearn_cli.analysis.seeds import Summary, summarize


@dataclass(frozen=True)
class Entry:
    """One number of the table."""

    summary: Summary | None  # None: no run has it
    best: bool = False
    p: float | None = None  # against the best, corrected; of the best: the largest of the others'; None: not tested

    @property
    def as_good(self) -> bool:
        """The best, or not shown to differ from it."""
        return self.best or (self.p is not None and self.p >= ALPHA)

    @property
    def alone(self) -> bool:
        """The best, and every other differs from it."""
        return self.best and self.p is not None and self.p < ALPHA


def column(grid: Grid, panel: Place, heading: str) -> Mapping[Place, Entry]:
    """One column of one panel."""
    metrics = grid.spec.metrics(heading)
    cells = {row: cell for (place, row), cell in grid.cells.items() if place == panel}
    values = {row: cell.values(metrics) for row, cell in cells.items()}
    found = {row: summarize(list(seeds.values())) if seeds else None for row, seeds in values.items()}
    best = _best(grid, cells, metrics, found)
    if best is None:
        return {row: Entry(summary) for row, summary in found.items()}
    tested = {row: _test(grid, cells[row], cells[best], metrics) for row in found if row != best and found[row]}
    known = {row: p for row, p in tested.items() if p is not None}
    adjusted = dict(zip(known, holm(list(known.values())), strict=True)) if known else {}
    p_values = {row: float(p) for row, p in adjusted.items()}
    if len(known) == len(tested):
        p_values[best] = max(p_values.values())
    return {row: Entry(summary, row == best, p_values.get(row)) for row, summary in found.items()}


def direction(grid: Grid, heading: str) -> str:
    """Where a column should go, as the results say; a product goes where its first metric does."""
    key = grid.spec.metrics(heading)[0]
    runs = [member.run for member in grid.members if member.run is not None]
    return next((run.result.metrics[key]["direction"] for run in runs if key in run.result.metrics), "descriptive")


def reference(grid: Grid, panel: Place, heading: str, role: str) -> Summary | None:
    """The value of `base` or `gold` over seeds, each seed once."""
    metrics, seeds = grid.spec.metrics(heading), {}
    for member in grid.members:
        value = member.value(metrics, role) if member.panel == panel else None
        if value is not None:
            seeds[member.seed] = value
    return summarize(list(seeds.values())) if seeds else None


def _best(
    grid: Grid, cells: Mapping[Place, Cell], metrics: Sequence[str], found: Mapping[Place, Summary | None]
) -> Place | None:
    """The row whose mean is where the column should go; None if nowhere, or to a gold that is absent."""
    heading = next(name for name in grid.spec.columns if grid.spec.metrics(name) == metrics)
    towards, losses = direction(grid, heading), {}
    for row, summary in found.items():
        golds = list(cells[row].values(metrics, "gold").values())
        if summary is None:
            continue
        if towards == "to_gold" and golds:
            losses[row] = abs(summary.mean - float(np.mean(golds)))
        elif towards in ("higher", "lower"):
            losses[row] = summary.mean * (-1 if towards == "higher" else 1)
    return min(losses, key=lambda row: losses[row]) if len(losses) > 1 else None


def _test(grid: Grid, mine: Cell, theirs: Cell, metrics: Sequence[str]) -> float | None:
    """P-value that two rows do not differ; None where that cannot be said."""
    seeds = sorted(mine.values(metrics).keys() & theirs.values(metrics).keys())
    found = [grid.differences(mine.chosen[seed], theirs.chosen[seed], metrics) for seed in seeds]
    drawn = [differences for differences in found if differences is not None]
    if drawn:
        return p_value(drawn)
    values = [mine.values(metrics)[seed] - theirs.values(metrics)[seed] for seed in seeds]
    return sign_flip(np.array(values)) if len(values) >= LEAST_SEEDS else None
