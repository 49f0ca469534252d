"""Least-squares classification with a ridge, in closed form: a linear probe that has one answer and no optimiser."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unlearn_cli.evaluation import Floats, Ids


def predicted(train: NDArray[np.floating], labels: Ids, test: NDArray[np.floating], penalty: float) -> Ids:
    """Class [n] of rows `test` [n, d], from a probe on rows `train` [m, d] with `labels` [m].

    Features are standardised and one-hot targets centred by the training rows; weights are
    (X'X / m + penalty I)^-1 X'Y / m. Classes that training does not show are never predicted.
    """
    classes, place = np.unique(labels, return_inverse=True)
    mean, scale = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    scale = np.where(scale > 1e-6 * np.abs(mean) + 1e-12, scale, np.inf)  # what does not vary says nothing
    x, targets = (train - mean) / scale, np.eye(len(classes))[place]
    weights = solve(x, targets - targets.mean(axis=0), penalty)
    scores: Floats = (test - mean) / scale @ weights + targets.mean(axis=0)
    return classes[scores.argmax(axis=1)]


def solve(x: Floats, y: Floats, penalty: float) -> Floats:
    """Ridge weights [d, k] of centred features [m, d] and targets [m, k]."""
    gram = x.T @ x / len(x)
    return np.asarray(np.linalg.solve(gram + penalty * np.eye(len(gram)), x.T @ y / len(x)), dtype=np.float64)
