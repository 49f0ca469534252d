"""Do many unlearned models answer like as many retrained ones? KL divergence of margins (G03).

Georgiev et al. 2024, "Attribute-to-Delete" (arXiv 2410.23232). For each point the margins z_y - logsumexp of the others
of N unlearned models and of N gold models make two histograms; KLoM(point) = sum_b p_b log(p_b / max(q_b, eps)), p of
the unlearned ones. Published: N = 100, 20 bins, eps = 1e-5, the 95th percentile over points. As the reference code but
for one slip of it: the top edge of the range belongs to the last bin. q is not renormalised after the floor; a point on
which all margins are equal counts 0. Trap: with few models the bins' noise alone is far above 0. Read it against
`floor`, one half of the gold models against the other (which has half as many, so it errs upward).
"""

from __future__ import annotations

import numpy as np

from unlearn_cli.evaluation import Floats, Ids, Predictions

BINS, CLIP, EPSILON = 20, 100.0, 1e-5
FEW = 20  # models on a side below which the noise of the bins rules


def margins(predictions: Predictions, rows: Ids, answer: Ids) -> Floats:
    """log P(answer) - log of the other objects' total probability, nats, for each probe of `rows` [n]."""
    logps = predictions.candidate_logps[rows].astype(np.float64)
    place = np.arange(len(rows))
    mine = logps[place, answer]
    logps[place, answer] = -np.inf
    others: Floats = mine - np.logaddexp.reduce(logps, axis=1)
    return others


def klom(unlearned: Floats, gold: Floats, bins: int = BINS, clip: float = CLIP, epsilon: float = EPSILON) -> Floats:
    """Divergence of each point [n] between margins of unlearned models [N, n] and of gold models [M, n], nats."""
    mine, theirs = (np.clip(np.asarray(x, dtype=float), -clip, clip) for x in (unlearned, gold))
    return np.array([_divergence(a, b, bins, epsilon) for a, b in zip(mine.T, theirs.T, strict=True)])


def floor(gold: Floats, bins: int = BINS, clip: float = CLIP, epsilon: float = EPSILON) -> Floats:
    """The same of one half of the gold models against the other."""
    half = len(gold) // 2
    return klom(gold[:half], gold[half : 2 * half], bins, clip, epsilon)


def summary(divergences: Floats) -> dict[str, float]:
    """Mean, median and 95th percentile (published) over the points."""
    spread = {"median": float(np.median(divergences)), "p95": float(np.quantile(divergences, 0.95))}
    return {"mean": float(np.mean(divergences))} | spread


def _divergence(mine: Floats, theirs: Floats, bins: int, epsilon: float) -> float:
    low, high = min(mine.min(), theirs.min()), max(mine.max(), theirs.max())
    if high == low:
        return 0.0
    p, q = (np.histogram(x, bins, (low, high))[0] / len(x) for x in (mine, theirs))
    there = p > 0
    return float((p[there] * np.log(p[there] / np.maximum(q[there], epsilon))).sum())
