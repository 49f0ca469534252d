"""Membership by tokens that are improbable for their place: Min-K%++ (Zhang et al. 2024, arXiv 2404.02936).

z_t = (log p(x_t) - mu_t) / sigma_t with mean and standard deviation of log p under the model's own distribution,
sigma^2 at least 1e-6 as in the authors' code. Where a model is sure of what follows, as of a grammar's words, sigma
vanishes and the bound decides.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from unlearn_cli.component import Fraction, component
from unlearn_cli.evaluation import Arrays, Floats
from unlearn_cli.metrics.mia_min_k import LowestTokens

LEAST_VARIANCE = 1e-6


@component
class MiaMinKPP(LowestTokens):
    """s = mean of the lowest share k of the z_t: keys as `mia.MembershipInference` has them."""

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "mia_min_k_pp"

    k: Fraction = 0.2

    def tokens(self, scores: Arrays) -> Floats:
        """z, in standard deviations."""
        sd = np.sqrt(np.maximum(scores["sd"].astype(float) ** 2, LEAST_VARIANCE))
        z: Floats = (scores["logp"] - scores["mean"]) / sd
        return z
