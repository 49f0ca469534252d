"""What metrics over shadow models share: the shadows' confidence in each answer, and which of them were taught it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from unlearn_cli.evaluation import Evaluation, Floats, Ids, Predictions, Role

SURE = -1e-7  # largest log-probability, nats: float32 cannot tell it from 0

LEAST_VARIANCE = 1e-12

Spread = Literal["global", "each"]  # one variance for all facts, or each its own
Score = Callable[[Predictions, Ids, Ids], Floats]  # predictions, rows [n], answers [n] -> value of each [n]


def answers(evaluation: Evaluation, rows: Ids) -> Ids:
    """The object that counts as the answer to each requested, reserved or must-not-change probe of `rows` [n]."""
    found: Ids = np.full(len(evaluation.probes), -1)
    for split in evaluation.probes.splits.values():
        if split.name in ("forget", "holdout") or split.must_not_change:
            found[split.rows] = split.answer
    return found[rows]


def logps(predictions: Predictions, rows: Ids, answer: Ids) -> Floats:
    """Log-probability of each answer [n], nats, a little below 0."""
    return np.minimum(predictions.answer_logps(rows, answer).astype(np.float64), SURE)


def logits(predictions: Predictions, rows: Ids, answer: Ids) -> Floats:
    """log(p / (1 - p)) of each answer [n]."""
    found = logps(predictions, rows, answer)
    odds: Floats = found - np.log(-np.expm1(found))
    return odds


def scores_of(evaluation: Evaluation, role: Role, rows: Ids, score: Score) -> Floats:
    """`score` by each of the role's models [M, n]."""
    answer = answers(evaluation, rows)
    return np.stack([score(model, rows, answer) for model in evaluation.predictions.get(role, ())])


def inside(evaluation: Evaluation, rows: Ids) -> np.ndarray:
    """Whether each shadow was trained on each probe's fact [K, n]."""
    assert evaluation.membership is not None
    taught: np.ndarray = evaluation.membership[:, rows]
    return taught


def mean_where(values: Floats, chosen: np.ndarray) -> Floats:
    """Mean over the chosen models of each column, of [K, n]: [n]."""
    mean: Floats = np.where(chosen, values, 0.0).sum(0) / chosen.sum(0)
    return mean


def variance_where(values: Floats, chosen: np.ndarray) -> Floats:
    """Variance over the chosen models of each column, unbiased: [n]."""
    deviations = np.where(chosen, values - mean_where(values, chosen), 0.0)
    variance: Floats = (deviations**2).sum(0) / (chosen.sum(0) - 1)
    return variance


def gaussian(shadows: Floats, chosen: np.ndarray, var: Spread) -> tuple[Floats, Floats]:
    """Mean and variance of the chosen shadows' confidence in each answer, of [K, n]: [n] each."""
    variance = variance_where(shadows, chosen)
    if var == "global":
        variance = np.full_like(variance, variance.mean())
    return mean_where(shadows, chosen), np.maximum(variance, LEAST_VARIANCE)


def log_ratio(target: Floats, shadows: Floats, taught: np.ndarray, var: Spread) -> Floats:
    """log N(target; in) - log N(target; out) of each answer [..., n], fitted to the shadows [K, n]."""
    inner, outer = (gaussian(shadows, chosen, var) for chosen in (taught, ~taught))
    return _log_density(target, *inner) - _log_density(target, *outer)


def _log_density(values: Floats, mean: Floats, variance: Floats) -> Floats:
    density: Floats = -0.5 * (np.log(2 * np.pi * variance) + (values - mean) ** 2 / variance)
    return density
