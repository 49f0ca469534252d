"""How far a metric can be trusted: does it tell models that know from models that never did, and is it robust?

After OpenUnlearning (Dorna et al. 2025, arXiv 2506.12618). A metric m is turned so that higher means more knowledge.

faithfulness  AUC of m over a pool P of models that hold the facts against a pool N that never did; 0.5 is chance
relearning    r = gold's change under relearning / the edited model's, R = min(r, 1), at least 0; 1 where the edited
              model's change is at most gold's: an honest metric does not jump more than on a model that never knew
quantization  Q = min(m before / m after, 1): knowledge that appears by rounding was there; 1 where none is after
              (`as_coded`: the inverse ratio, as a follow-up's script has it; `symmetric`: 1 - |a - b| / (a + b))
robustness    HM of mean R and mean Q; overall: HM of faithfulness and robustness

Only models that keep 0.8 of the base's utility and that m calls forgotten (m below its threshold) count for R and Q.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from unlearn_cli.analysis.leaderboard import harmonic_mean
from unlearn_cli.analysis.paired import SAMPLES, average_ranks
from unlearn_cli.streams import generator

Form = Literal["knowledge_up", "as_coded", "symmetric"]


@dataclass(frozen=True)
class Faithfulness:
    """How well a metric tells the two pools apart."""

    auc: float  # of the metric turned by `sign`
    sign: int  # 1: higher means more knowledge; -1: lower does
    threshold: float | None  # on the metric as it is; at or beyond it, on the side of `sign`, the facts are known
    accuracy: float  # share of all models that the threshold places rightly, the pools weighing the same


def auc(known: Sequence[float], unknown: Sequence[float]) -> float:
    """Probability that a value of the first pool exceeds one of the second, ties one half."""
    a, b = np.asarray(known, dtype=float)[:, None], np.asarray(unknown, dtype=float)[None]
    return float(((a > b) + 0.5 * (a == b)).mean())


def pools_differ(known: Sequence[float], unknown: Sequence[float], seed: int = 0, samples: int = SAMPLES) -> float:
    """Two-sided p-value of the area, by exchanging the models' labels: Mann-Whitney's test, exact with ties too.

    Monte Carlo, (1 + #) / (1 + samples), where there are more than `samples` ways.
    """
    ranks, n = average_ranks(np.array([*known, *unknown])), len(known)
    far = np.abs(ranks[:n].sum() - n * ranks.mean()) - 1e-9
    if math.comb(len(ranks), n) <= samples:
        sums = np.array([ranks[list(chosen)].sum() for chosen in combinations(range(len(ranks)), n)])
        return float((np.abs(sums - n * ranks.mean()) >= far).mean())
    rng = generator(seed, "pools")
    sums = np.array([rng.permutation(ranks)[:n].sum() for _ in range(samples)])
    return (1 + int((np.abs(sums - n * ranks.mean()) >= far).sum())) / (1 + samples)


def faithfulness(known: Sequence[float], unknown: Sequence[float], sign: int | None = None) -> Faithfulness:
    """Judge a metric by its values on both pools; without a `sign` the pools' means say which way it points."""
    if sign is None:
        sign = 1 if np.mean(known) >= np.mean(unknown) else -1
    p, n = sign * np.asarray(known, dtype=float), sign * np.asarray(unknown, dtype=float)
    values = np.unique(np.concatenate([p, n]))
    cuts = (values[1:] + values[:-1]) / 2
    if not len(cuts):
        return Faithfulness(0.5, sign, None, 0.5)
    balanced = [((p >= cut).mean() + (n < cut).mean()) / 2 for cut in cuts]
    best = int(np.argmax(balanced))
    return Faithfulness(auc(p.tolist(), n.tolist()), sign, float(sign * cuts[best]), float(balanced[best]))


def relearning(before: float, after: float, gold_before: float, gold_after: float) -> float:
    """R of one model, of a metric in which higher means more knowledge."""
    mine, golds = after - before, gold_after - gold_before
    if mine <= golds or mine < 1e-6:
        return 1.0
    return float(np.clip(golds / mine, 0.0, 1.0))


def quantization(before: float, after: float, form: Form = "knowledge_up") -> float:
    """Q of one model, of a metric in which higher means more knowledge, at least 0."""
    if form == "symmetric":
        total = before + after
        return 1.0 if total == 0 else 1 - abs(after - before) / total
    over, under = (before, after) if form == "knowledge_up" else (after, before)
    return 1.0 if under <= 0 else float(np.clip(over / under, 0.0, 1.0))


def robustness(relearned: Sequence[float], quantized: Sequence[float]) -> float | None:
    """HM of the two means; None without a model to judge by."""
    if not relearned or not quantized:
        return None
    return harmonic_mean([float(np.mean(relearned)), float(np.mean(quantized))])
