"""Is one model better than another on the same items? Exact tests for two, and ranks over worlds for many.

McNemar 1947 (exact, binomial) for yes or no; sign flips of whole subjects for anything graded, since the probes of a
subject are not independent; Wilcoxon 1945 for one difference each; Holm 1979 where several are tested; Friedman 1937
and Nemenyi 1963 for methods ranked on several worlds (Demsar 2006). Read the difference and its interval first: with
two seeds or four subjects no test can reach 0.05.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from unlearn_cli.evaluation import Floats, Ids
from unlearn_cli.streams import generator

SLACK = 1e-12  # sums in another order differ in their last bits; equal to the observed counts as extreme
SAMPLES = 9999  # sign flips where all of them are too many
EXACT_WILCOXON = 50  # differences up to which the null distribution is enumerated


def mcnemar(first: Floats, second: Floats) -> float:
    """Two-sided exact p-value for 0/1 items; 1 where the two never differ."""
    b = int(((np.asarray(first) == 1) & (np.asarray(second) == 0)).sum())
    c = int(((np.asarray(first) == 0) & (np.asarray(second) == 1)).sum())
    return mcnemar_counts(b, c)


def mcnemar_counts(b: int, c: int) -> float:
    """The same of the discordant counts: only the first right, only the second right."""
    n, k = b + c, min(b, c)
    return min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)


def sign_flip(differences: Floats, cluster: Ids | None = None, seed: int = 0, samples: int = SAMPLES) -> float:
    """Two-sided p-value that the mean difference is zero; the signs of all items of a cluster flip together.

    Exact while there are at most `samples` labellings, which include the observed one; else (1 + #) / (1 + samples).
    """
    values = np.asarray(differences, dtype=float)
    sums = values if cluster is None else np.bincount(np.unique(cluster, return_inverse=True)[1], values)
    sums = sums[np.abs(sums) > SLACK]  # flipping a zero changes nothing
    observed = abs(float(sums.sum())) - SLACK * max(1.0, float(np.abs(sums).sum()))
    if 2 ** len(sums) <= samples:
        signs = np.array(list(product((1.0, -1.0), repeat=len(sums))))
        return float((np.abs(signs @ sums) >= observed).mean())
    rng, extreme = generator(seed, "sign flips"), 0
    for start in range(0, samples, 1000):
        signs = rng.integers(0, 2, (min(1000, samples - start), len(sums))) * 2.0 - 1.0
        extreme += int((np.abs(signs @ sums) >= observed).sum())
    return (1 + extreme) / (1 + samples)


def wilcoxon(differences: Floats) -> float:
    """Two-sided p-value of the signed-rank test; zeros are dropped, equal sizes share their rank.

    Exact up to 50 differences, with ties too; beyond, the normal approximation with the ties' variance.
    """
    values = np.asarray(differences, dtype=float)
    values = values[np.abs(values) > SLACK]
    if not len(values):
        return 1.0
    ranks = average_ranks(np.abs(values))
    positive = float(ranks[values > 0].sum())
    return _exact_wilcoxon(ranks, positive) if len(values) <= EXACT_WILCOXON else _normal_wilcoxon(ranks, positive)


def _exact_wilcoxon(ranks: Floats, positive: float) -> float:
    doubled = np.rint(2 * ranks).astype(int)  # mid-ranks are halves
    ways = np.zeros(doubled.sum() + 1)
    ways[0] = 1.0
    for rank in doubled:
        ways[rank:] = ways[rank:] + ways[: len(ways) - rank]
    share = ways / ways.sum()
    place = round(2 * positive)
    return min(1.0, 2 * float(min(share[: place + 1].sum(), share[place:].sum())))


def _normal_wilcoxon(ranks: Floats, positive: float) -> float:
    spread = math.sqrt(float((ranks**2).sum()) / 4)  # each rank is counted or not, with even odds
    z = (positive - float(ranks.sum()) / 2) / spread
    return math.erfc(abs(z) / math.sqrt(2))


def average_ranks(values: Floats) -> Floats:
    """Ranks [n] from 1, ascending; equal values share the mean of theirs."""
    _, place, count = np.unique(np.asarray(values, dtype=float), return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    ranks: Floats = (last - (count - 1) / 2)[place]
    return ranks


def holm(p_values: Sequence[float] | Floats) -> Floats:
    """P-values adjusted so that rejecting those below alpha errs with at most alpha in the whole family."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


@dataclass(frozen=True)
class Ranking:
    """Methods ranked over worlds."""

    ranks: Floats  # [methods] mean rank, 1 is best
    statistic: float  # Friedman's, corrected for ties
    p: float  # chi-squared with k - 1 degrees: rough below about 10 worlds
    critical: float  # Nemenyi: mean ranks that differ by less do not differ


def ranking(scores: Floats, alpha: float = 0.05) -> Ranking:
    """Rank the methods of `scores` [worlds, methods], higher is better, in each world."""
    from scipy.stats import chi2, studentized_range

    table = np.asarray(scores, dtype=float)
    worlds, methods = table.shape
    if worlds < 2 or methods < 3:
        raise ValueError(f"{worlds} worlds and {methods} methods: a ranking needs 2 and 3; for two use a paired test")
    ranks = np.stack([average_ranks(-row) for row in table])
    mean = ranks.mean(0)
    spread = float(((ranks - (methods + 1) / 2) ** 2).sum())  # zero only if all tie everywhere
    between = worlds * float(((mean - (methods + 1) / 2) ** 2).sum())
    statistic = worlds * (methods - 1) * between / spread if spread else 0.0
    width = float(studentized_range.ppf(1 - alpha, methods, np.inf)) / math.sqrt(2)
    critical = width * math.sqrt(methods * (methods + 1) / (6 * worlds))
    return Ranking(mean, statistic, float(chi2.sf(statistic, methods - 1)), critical)
