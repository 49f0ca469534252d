"""The table of methods: mean over seeds with its interval, the best of each column, and which are not worse.

A row is tested against the best of its column on the items that both were asked, paired by seed, fact and phrasing: the
signs of a subject's items flip together (`paired.sign_flip`), each split weighing the same as in the value. Holm's
correction is over the rows of a column. Metrics without stored items are tested on the seeds' values if there are six
seeds: fewer cannot reach 0.05. The test is about the subjects of these runs, not about another training seed; the best
is chosen by the same numbers, so with many rows it is flattered.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unlearn_cli.analysis.paired import holm, sign_flip
from unlearn_cli.analysis.runs import Run
from unlearn_cli.analysis.seeds import Summary, summarize

ALPHA = 0.05
LEAST_SEEDS = 6  # 2 / 2^6 < 0.05: with fewer no difference of values could be shown
AGGREGATES = {"retain": ("/seen", "/unseen"), "retain/seen": ("/seen",), "retain/unseen": ("/unseen",)}


@dataclass(frozen=True)
class Cell:
    """One method's value of one metric."""

    summary: Summary
    best: bool = False
    p: float | None = None  # against the best, corrected; None for the best itself, and where nothing can be compared
    paired: str = ""  # what the test paired: items, seeds

    @property
    def as_good(self) -> bool:
        """The best, or not shown to differ from it."""
        return self.best or (self.p is not None and self.p >= ALPHA)


Column = Mapping[str, Cell]  # by row


def column(rows: Mapping[str, Sequence[Run]], key: str) -> Column:
    """One metric of every row that has it; the rows are of one bench."""
    values = {row: _values(runs, key) for row, runs in rows.items()}
    found = {row: summarize(list(seeds.values())) for row, seeds in values.items() if seeds}
    best = _best(rows, key, found)
    if best is None:
        return {row: Cell(summary) for row, summary in found.items()}
    tested = {row: _test(rows[row], rows[best], key) for row in found if row != best}
    known = {row: result for row, result in tested.items() if result is not None}
    adjusted = dict(zip(known, holm([p for p, _ in known.values()]), strict=True)) if known else {}
    cells = {best: Cell(found[best], best=True)}
    for row in tested:
        p = adjusted.get(row)
        cells[row] = Cell(found[row], False, None if p is None else float(p), known[row][1] if row in known else "")
    return {row: cells[row] for row in found}


def reference(runs: Sequence[Run], key: str, role: str) -> Summary | None:
    """The value of `base` or `gold` over seeds, each seed once."""
    seeds = {run.seed: value for run in runs if (value := run.value(key, role)) is not None}
    return summarize(list(seeds.values())) if seeds else None


def direction(runs: Sequence[Run], key: str) -> str:
    """Where the metric should go, as its results say."""
    return next((run.result.metrics[key]["direction"] for run in runs if key in run.result.metrics), "descriptive")


def _values(runs: Sequence[Run], key: str) -> dict[int, float]:
    return {run.seed: value for run in runs if (value := run.value(key)) is not None}


def _best(rows: Mapping[str, Sequence[Run]], key: str, found: Mapping[str, Summary]) -> str | None:
    """The row whose mean is where the metric should go; None if it should go nowhere, or to a gold that is absent."""
    towards = direction([run for runs in rows.values() for run in runs], key)
    loss: dict[str, float] = {}
    for row, summary in found.items():
        gold = reference(rows[row], key, "gold")
        if towards == "to_gold" and gold is not None:
            loss[row] = abs(summary.mean - gold.mean)
        elif towards in ("higher", "lower"):
            loss[row] = summary.mean * (-1 if towards == "higher" else 1)
    return min(loss, key=lambda row: loss[row]) if len(loss) > 1 else None


def _test(mine: Sequence[Run], theirs: Sequence[Run], key: str) -> tuple[float, str] | None:
    """P-value that two rows do not differ, and what was paired; None where they share no seed."""
    pairs = [(a, b) for a in mine for b in theirs if a.seed == b.seed]
    sums: list[float] = []
    for a, b in pairs:
        first, second = _items(a, key), _items(b, key)
        sums += _by_subject(first, second)
    if sums:
        return sign_flip(np.array(sums)), "items"
    values = [(a.value(key), b.value(key)) for a, b in pairs]
    differences = [x - y for x, y in values if x is not None and y is not None]
    return (sign_flip(np.array(differences)), "seeds") if len(differences) >= LEAST_SEEDS else None


def _items(run: Run, key: str) -> dict[tuple[str, int, int], tuple[float, int, float]]:
    """Value, subject and weight of every stored item behind a value of the edited model."""
    table = run.items()
    metric, _, split = key.partition("/")
    if table is None or not split:
        return {}
    mine = (table["metric"] == metric) & (table["role"] == "edited")
    names: list[str] = sorted(set(table["split"][mine].tolist()))
    ends = AGGREGATES.get(split)
    parts = [name for name in names if (name == split if ends is None else name.endswith(ends))]
    found = {}
    for name in parts:
        chosen = np.flatnonzero(mine & (table["split"] == name))
        weight = 1 / (len(parts) * len(chosen))
        for place in chosen:
            item = (name, int(table["fact"][place]), int(table["template"][place]))
            found[item] = (float(table["value"][place]), int(table["subject"][place]), weight)
    return found


def _by_subject(
    first: Mapping[tuple[str, int, int], tuple[float, int, float]],
    second: Mapping[tuple[str, int, int], tuple[float, int, float]],
) -> list[float]:
    """Weighted sum of the differences of each subject's shared items."""
    sums: dict[int, float] = defaultdict(float)
    for item in first.keys() & second.keys():
        value, subject, weight = first[item]
        sums[subject] += weight * (value - second[item][0])
    return [sums[subject] for subject in sorted(sums)]
