"""Area under utility over deletion, along the settings or steps of a method.

UPCORE, Patil et al. 2025 (arXiv 2502.15082): x is how much was deleted (1 - recall of the requested facts), y a
utility; one area for each y. The published area is not anchored, so it depends on the range of x that was reached:
`upcore` gives that one, `anchored` spans [0, 1].
Departures, both of `anchored`: on the left (0, y of the base), if no run has x = 0; on the right (1, 0), if no run
reaches x = 1, which is pessimistic: nothing is known of what full deletion would have cost.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from unlearn_cli.evaluation import Floats

Form = Literal["anchored", "upcore"]


def tradeoff_auc(x: Floats, y: Floats, base_y: float | None = None, form: Form = "anchored") -> float | None:
    """Trapezoidal area; points of equal x are averaged. None where there is no range of x, or no base to anchor at."""
    xs, ys = averaged(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
    if form == "anchored":
        if not len(xs):
            return None
        if xs[0] > 0:
            if base_y is None:
                return None
            xs, ys = np.append(0.0, xs), np.append(base_y, ys)
        if xs[-1] < 1:
            xs, ys = np.append(xs, 1.0), np.append(ys, 0.0)
    return float(np.trapezoid(ys, xs)) if len(xs) > 1 else None


def averaged(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Distinct x in ascending order, and the mean y of each."""
    distinct, place = np.unique(x, return_inverse=True)
    return distinct, np.bincount(place, y) / np.bincount(place)
