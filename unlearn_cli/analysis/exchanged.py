"""Is one run better than another on what both were asked? A paired permutation test, of a product of metrics too.

Under the hypothesis that two settings do not differ, all answers of a subject could as well be those of the other
setting: they are exchanged or not with even odds, the statistic is formed anew for both, and the p-value is the share
of exchanges with a difference as large. For one metric this is `paired.sign_flip`; seeds are averaged. It is about the
subjects of these seeds, not about another training seed: for that there are the t-intervals over seeds, and the demand
that a difference has one sign on every seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlearn_cli.analysis.compare import AGGREGATES
from unlearn_cli.analysis.runs import Run
from unlearn_cli.evaluation import Floats, Ids
from unlearn_cli.streams import generator

SAMPLES = 9999  # p-values go down to 1e-4, small enough for Holm's correction over hundreds of comparisons
SLACK = 1e-9  # sums in another order differ in their last bits; equal to the observed counts as extreme

Part = tuple[Ids, Floats]  # subject and value of each item of a split


@dataclass
class Bench:
    """What was asked of all runs of one panel and seed, and the exchanges that their comparisons share."""

    name: str
    samples: int = SAMPLES
    _known: dict[tuple[Any, ...], list[Part]] = field(default_factory=dict, repr=False)
    _drawn: dict[int, NDArray[np.int8]] = field(default_factory=dict, repr=False)  # by block of samples

    def differences(self, one: Run, two: Run, metrics: Sequence[str]) -> Floats | None:
        """The difference of the two, then [samples] of it under exchange; None unless all are means of items."""
        first, second = np.ones(1 + self.samples), np.ones(1 + self.samples)
        for key in metrics:
            pairs = self._pairs(one, two, key)
            if pairs is None:
                return None
            middle, half = self._exchanged(pairs)
            first, second = first * (middle + half), second * (middle - half)
        return first - second

    def _pairs(self, one: Run, two: Run, key: str) -> list[tuple[Part, Part]] | None:
        parts = [self._parts(run, key) for run in (one, two)]
        alike = [len(parts[0]) == len(parts[1]), bool(parts[0])]
        pairs = list(zip(*parts, strict=False))
        return pairs if all(alike) and all(np.array_equal(a[0], b[0]) for a, b in pairs) else None

    def _exchanged(self, pairs: Sequence[tuple[Part, Part]]) -> tuple[float, Floats]:
        """The mean of both values, and half their difference: the observed one, then under exchange.

        A value is the unweighted mean over its splits.
        """
        subjects = np.unique(np.concatenate([subject for (subject, _), _ in pairs]))
        totals, middle = np.zeros(len(subjects)), 0.0
        for (subject, mine), (_, theirs) in pairs:
            weight = 1 / (2 * len(mine) * len(pairs))
            totals += np.bincount(np.searchsorted(subjects, subject), weight * (mine - theirs), len(subjects))
            middle += weight * float((mine + theirs).sum())
        moved = np.flatnonzero(totals)  # exchanging equals changes nothing
        halves = [np.ones((1, len(moved))) @ totals[moved]]
        for start in range(0, self.samples, 1000):
            signs = self._signs(start, subjects[moved], min(1000, self.samples - start))
            halves.append(signs @ totals[moved])
        return middle, np.concatenate(halves)

    def _signs(self, block: int, subjects: Ids, samples: int) -> Floats:
        """Exchange [samples, subjects] or not: of a subject the same in every metric and comparison."""
        if not len(subjects):
            return np.zeros((samples, 0))
        width, drawn = int(subjects.max()) + 1, self._drawn.get(block)
        if drawn is None or len(drawn) < width:  # the first rows are the same for any width
            drawn = generator(0, "exchange", self.name, block).integers(0, 2, (width, samples), dtype=np.int8)
            self._drawn[block] = drawn
        return drawn[subjects].T.astype(np.float64) * 2 - 1

    def _parts(self, run: Run, key: str) -> list[Part]:
        place = (run.result.run_dir, key)
        if place not in self._known:
            parts = _parts(run, key)
            mean = np.mean([value.mean() for _, value in parts]) if parts else np.nan
            # a median, say, has items too, but is not their mean
            self._known[place] = parts if abs(mean - (run.value(key) or 0.0)) < 1e-6 else []
        return self._known[place]


def p_value(seeds: Sequence[Floats]) -> float:
    """Two-sided, of the mean over seeds of what `Bench.differences` gives."""
    differences = np.abs(np.mean(seeds, axis=0))
    return float((differences >= differences[0] - SLACK).mean())


def _parts(run: Run, key: str) -> list[Part]:
    """Subject and value of the items of each split behind a metric of the edited model."""
    table = run.items()
    words = key.split("/")
    for cut in range(1, len(words)) if table is not None else ():
        metric, split = "/".join(words[:cut]), "/".join(words[cut:])
        mine = (table["metric"] == metric) & (table["role"] == "edited")
        ends = AGGREGATES.get(split, ())
        names = sorted(set(table["split"][mine].tolist()))
        chosen = [mine & (table["split"] == name) for name in names if name == split or name.endswith(tuple(ends))]
        if chosen:
            return [(table["subject"][one], np.asarray(table["value"][one], dtype=float)) for one in chosen]
    return []
