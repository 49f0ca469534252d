"""Over training seeds: mean, spread and interval; and both at once, seeds and the subjects that were asked.

A run's own interval is about which subjects were asked; it says nothing about another seed. With K seeds the t-interval
has K - 1 degrees of freedom: from 2 seeds it reaches 13 standard errors each way, from 5 three.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unlearn_cli.evaluation import Bootstrap
from unlearn_cli.statistics import Interval, Part, pooled_mean, student_quantile
from unlearn_cli.streams import generator


@dataclass(frozen=True)
class Summary:
    """One value for each seed, in short."""

    mean: float
    n: int  # seeds
    sd: float | None  # with n - 1; None with one seed
    ci: Interval | None  # Student's t


def summarize(values: Sequence[float], level: float = 0.95) -> Summary:
    """Mean over seeds with its t-interval."""
    n = len(values)
    mean = math.fsum(values) / n
    if n < 2:
        return Summary(mean, n, None, None)
    sd = float(np.std(values, ddof=1))
    half = student_quantile((1 + level) / 2, n - 1) * sd / math.sqrt(n)
    return Summary(mean, n, sd, (mean - half, mean + half))


def two_level(runs: Sequence[Part], bootstrap: Bootstrap) -> Interval:
    """Percentile interval of the mean over seeds when seeds are drawn, and within each its subjects.

    Published practice where both vary. With few seeds it is too narrow, as every bootstrap of few things.
    """
    rng = generator(bootstrap.seed, "two-level bootstrap")
    totals = [_totals(run) for run in runs]
    draws = [_draw(totals, rng) for _ in range(bootstrap.samples)]
    tail = (1 - bootstrap.level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def mean_over_seeds(runs: Sequence[Part]) -> float:
    """Unweighted mean of the seeds' pooled means."""
    return math.fsum(map(pooled_mean, runs)) / len(runs)


Totals = tuple[np.ndarray, np.ndarray]


def _totals(run: Part) -> Totals:
    """Sum and count of each subject's items."""
    _, place = np.unique(run.cluster, return_inverse=True)
    return np.bincount(place, run.values), np.bincount(place).astype(float)


def _draw(totals: Sequence[Totals], rng: np.random.Generator) -> float:
    means = []
    for seed in rng.integers(0, len(totals), len(totals)):
        sums, sizes = totals[seed]
        chosen = rng.integers(0, len(sums), len(sums))
        means.append(sums[chosen].sum() / sizes[chosen].sum())
    return float(np.mean(means))
