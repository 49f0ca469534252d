"""Search for the strength of a corruption by differences of the loss alone."""

from __future__ import annotations

from collections.abc import Callable


def descend(loss: Callable[[float], float], start: float, lr: float, eps: float, steps: int) -> tuple[float, float]:
    """The strength of the lowest loss seen, the first of several, and that loss.

    A step goes down the slope between strength - eps and strength + eps. No strength is below 0: there the points are
    closer than 2 eps, and the slope is taken over their true distance.
    """
    strength = start
    seen = [(loss(strength), strength)]
    for _ in range(steps):
        points = max(strength - eps, 0.0), strength + eps
        low, high = map(loss, points)
        seen += [(low, points[0]), (high, points[1])]
        strength = max(strength - lr * (high - low) / (points[1] - points[0]), 0.0)
    if steps:
        seen.append((loss(strength), strength))
    lowest, best = min(seen, key=lambda pair: pair[0])
    return best, lowest
