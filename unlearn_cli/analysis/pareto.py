"""Forgetting against utility over the settings of a method: Pareto front, hypervolume, and the best at a floor.

Scores are scaled by the models that are known: forgetting is 0 at the base and 1 at gold, utility 0 at collapse and 1
at the base. Both are clipped to [0, 1], else one broken run would buy an area above 1. Trap: forgetting beyond gold is
clipped too, so a front does not see over-forgetting; equal points do not dominate each other and stay on the front.
Calibrated comparison: Wang et al. 2024, "Towards Effective Evaluations" (arXiv 2406.09179).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unlearn_cli.evaluation import Floats, Ids

LEAST_RANGE = 0.02  # between base and gold; below it there is nothing to forget, and no score


@dataclass(frozen=True)
class Scale:
    """The readings that turn knowledge and utility into scores."""

    known: float  # the base's knowledge of the requested facts
    unknown: float  # gold's
    intact: float  # the base's utility
    collapsed: float = 0.0  # of a model that has lost everything

    def forgetting(self, knowledge: float) -> float | None:
        """0 at the base, 1 at gold and beyond; None where the two do not differ."""
        return _share(self.known - knowledge, self.known - self.unknown)

    def utility(self, value: float) -> float | None:
        """0 at collapse, 1 at the base and above."""
        return _share(value - self.collapsed, self.intact - self.collapsed)


def _share(part: float, whole: float) -> float | None:
    if abs(whole) < LEAST_RANGE:
        return None
    return float(np.clip(part / whole, 0.0, 1.0))


def front(points: Floats) -> Ids:
    """Indices of the points [n, 2] that no other is at least equal to in both and better in one, by the first score."""
    points = np.asarray(points, dtype=float).reshape(-1, 2)
    kept = np.flatnonzero(~_dominated(points))
    order: Ids = kept[np.lexsort((-points[kept, 1], points[kept, 0]))]
    return order


def _dominated(points: Floats) -> NDArray[np.bool_]:
    mine, others = points[:, None], points[None]
    at_least, better = np.all(others >= mine, axis=-1), np.any(others > mine, axis=-1)
    return np.asarray(np.any(at_least & better, axis=1))


def hypervolume(points: Floats) -> float:
    """Area of [0, 1]^2 that the points [n, 2] dominate, seen from (0, 0); the points are clipped to it."""
    clipped = np.clip(np.asarray(points, dtype=float).reshape(-1, 2), 0.0, 1.0)
    best = clipped[front(clipped)]  # ascending in the first, so descending in the second
    widths = np.diff(best[:, 0], prepend=0.0)
    return float((widths * best[:, 1]).sum())


def best_utility(points: Floats, least: float = 0.95) -> float | None:
    """Highest second score among points whose first is at least `least`; None if none is."""
    return _best(np.asarray(points, dtype=float).reshape(-1, 2), least)


def best_forgetting(points: Floats, least: float = 0.95) -> float | None:
    """Highest first score among points whose second is at least `least`; None if none is."""
    return _best(np.asarray(points, dtype=float).reshape(-1, 2)[:, ::-1], least)


def _best(points: Floats, least: float) -> float | None:
    good = points[points[:, 0] >= least, 1]
    return float(good.max()) if len(good) else None
