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
from unlearn_cli.metrics.token_attack import TokenAttack, lowest
from unlearn_cli.metrics.token_metric import Scope, in_scope

LEAST_VARIANCE = 1e-6


@component
class MiaMinKPP(TokenAttack):
    """s = mean of the lowest share k of the z_t: keys as `mia.MembershipInference` has them."""

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "mia_min_k_pp"

    scope: Scope = "answer"
    k: Fraction = 0.2
    fpr: Fraction = 0.05

    def score(self, scores: Arrays) -> Floats:
        """Mean of the lowest z [n]."""
        sd = np.sqrt(np.maximum(scores["sd"].astype(float) ** 2, LEAST_VARIANCE))
        return lowest((scores["logp"] - scores["mean"]) / sd, in_scope(scores, self.scope), self.k)
