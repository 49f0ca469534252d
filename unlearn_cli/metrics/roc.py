"""How well scores tell members from non-members: the ROC curve, what is read off it, a bootstrap of both sides.

A score is higher for what looks more like a member. The area is that of Mann and Whitney, ties counting one half; a
rate at a false-positive rate is that of a threshold, a step function without interpolation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unlearn_cli.evaluation import Bootstrap, Floats, Ids, Reading
from unlearn_cli.statistics import percentile_interval
from unlearn_cli.streams import generator

BLOCK = 50  # resamples held at a time
SLACK = 1e-12  # of rates that are sums of shares

Read = Callable[["Curve"], Floats]  # curves of B resamples -> value of each [B]


@dataclass(frozen=True, eq=False)
class Curve:
    """Rates [B, K + 1] of B samples at thresholds from above every score to the lowest of K distinct ones."""

    false: Floats  # non-members taken for members
    true: Floats  # members taken for members


@dataclass(frozen=True, eq=False)
class Sides:
    """Scores of members and non-members, and the unit of resampling that each belongs to."""

    members: Floats  # [m]
    nonmembers: Floats  # [n]
    member_cluster: Ids  # [m]
    nonmember_cluster: Ids  # [n]


def auc(curve: Curve) -> Floats:
    """P(member > non-member) + P(equal) / 2."""
    return (np.diff(curve.false, axis=1) * (curve.true[:, 1:] + curve.true[:, :-1]) / 2).sum(1)


def advantage(curve: Curve) -> Floats:
    """Largest TPR - FPR of a threshold; (1 + it) / 2 is the best balanced accuracy."""
    return (curve.true - curve.false).max(1)


def tpr_at(alpha: float) -> Read:
    """Largest TPR of a threshold whose FPR is at most alpha."""
    return lambda curve: np.where(curve.false <= alpha + SLACK, curve.true, 0.0).max(1)


def tpr_reversed_at(alpha: float) -> Read:
    """The same of the scores with their sign turned: members are then what looks least like one."""
    return lambda curve: np.where(1 - curve.false <= alpha + SLACK, 1 - curve.true, 0.0).max(1)


@dataclass(frozen=True, eq=False)
class Statistic:
    """A number and what it is in each resample [B]; those of one evaluation are drawn alike and can be combined."""

    value: float
    draws: Floats
    items: int
    clusters: int

    def reading(self, bootstrap: Bootstrap) -> Reading:
        """With its interval."""
        interval = percentile_interval(self.draws, self.clusters, bootstrap.level)
        return Reading(self.value, self.items, interval)


def statistics(models: Sequence[Sides], reads: Mapping[str, Read], bootstrap: Bootstrap) -> dict[str, Statistic]:
    """Every statistic, averaged over `models`, which score the same items.

    Clusters of members and of non-members are drawn with replacement, each side by itself.
    """
    first = models[0]
    n = len(first.members) + len(first.nonmembers)
    clusters = min(len(np.unique(first.member_cluster)), len(np.unique(first.nonmember_cluster)))
    draws = _resampled(models, reads, bootstrap)
    values = {name: float(np.mean([read(_curve(sides)) for sides in models])) for name, read in reads.items()}
    return {name: Statistic(value, draws[name], n, clusters) for name, value in values.items()}


def _resampled(models: Sequence[Sides], reads: Mapping[str, Read], bootstrap: Bootstrap) -> dict[str, Floats]:
    rng = generator(bootstrap.seed, "roc")
    both = (models[0].member_cluster, models[0].nonmember_cluster)
    sides = [np.unique(cluster, return_inverse=True)[1] for cluster in both]
    sorters = [_Sorted(model) for model in models]
    draws: dict[str, list[Floats]] = {name: [] for name in reads}
    for start in range(0, bootstrap.samples, BLOCK):
        size = min(BLOCK, bootstrap.samples - start)
        weights = [_counts(rng, int(cluster.max()) + 1, size)[:, cluster] for cluster in sides]
        curves = [sorter.curve(*weights) for sorter in sorters]
        for name, read in reads.items():
            draws[name].append(np.mean([read(curve) for curve in curves], axis=0))
    return {name: np.concatenate(found) for name, found in draws.items()}


def _counts(rng: np.random.Generator, clusters: int, size: int) -> Floats:
    """How often each cluster is drawn [size, clusters]."""
    drawn = rng.integers(0, clusters, (size, clusters)) + clusters * np.arange(size)[:, None]
    return np.bincount(drawn.ravel(), minlength=size * clusters).reshape(size, clusters).astype(np.float64)


def _curve(sides: Sides) -> Curve:
    return _Sorted(sides).curve(np.ones((1, len(sides.members))), np.ones((1, len(sides.nonmembers))))


class _Sorted:
    """Scores in descending order, so that each resample is a weighted sum."""

    def __init__(self, sides: Sides) -> None:
        scores = np.concatenate([sides.members, sides.nonmembers])
        self.order = np.argsort(-scores, kind="stable")
        ordered = scores[self.order]
        self.last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))  # of each group of equal scores
        self.member = self.order < len(sides.members)

    def curve(self, members: Floats, nonmembers: Floats) -> Curve:
        """The curve of items weighted by `members` [B, m] and `nonmembers` [B, n]."""
        weights = np.concatenate([members, nonmembers], axis=1)[:, self.order]
        rates = []
        for mine in (~self.member, self.member):
            passed = np.cumsum(weights * mine, axis=1)
            rates.append(np.pad(passed[:, self.last] / passed[:, -1:], ((0, 0), (1, 0))))
        return Curve(*rates)
