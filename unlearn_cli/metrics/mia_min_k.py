"""Membership by the least probable tokens: Min-K% (Shi et al. 2023, arXiv 2310.16789).

n_k = max(1, floor(k T)); published code without the max gives NaN on short texts. Published k: 0.2 (the paper), 0.4
(MUSE, OpenUnlearning). With answers of one token it is `mia_loss`.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from unlearn_cli.component import Fraction, component
from unlearn_cli.evaluation import Arrays, Floats
from unlearn_cli.metrics.token_attack import TokenAttack, lowest
from unlearn_cli.metrics.token_metric import Scope, in_scope


@component
class LowestTokens(TokenAttack):
    """s = mean of the lowest share k of what `tokens` says of each token."""

    scope: Scope = "answer"
    k: Fraction
    fpr: Fraction = 0.05

    @abstractmethod
    def tokens(self, scores: Arrays) -> Floats:
        """The value of each token [n, T]."""

    def score(self, scores: Arrays) -> Floats:
        """Mean of the lowest values [n]."""
        return lowest(self.tokens(scores), in_scope(scores, self.scope), self.k)


@component
class MiaMinK(LowestTokens):
    """s = mean of the lowest share k of the log-probabilities: keys as `mia.MembershipInference` has them."""

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "mia_min_k"

    k: Fraction = 0.4

    def tokens(self, scores: Arrays) -> Floats:
        """Log-probabilities, nats."""
        logp: Floats = scores["logp"].astype(float)
        return logp
