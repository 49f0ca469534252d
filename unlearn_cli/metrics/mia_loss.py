"""Membership by loss: what was trained on is more probable (Yeom et al. 2018, arXiv 1709.01604)."""

from __future__ import annotations

from typing import ClassVar

from unlearn_cli.component import Fraction, component
from unlearn_cli.evaluation import Arrays, Floats
from unlearn_cli.metrics.token_attack import TokenAttack, mean_logp
from unlearn_cli.metrics.token_metric import Scope


@component
class MiaLoss(TokenAttack):
    """s = mean log-probability of a token: keys and their meaning as `mia.MembershipInference` has them."""

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "mia_loss"

    scope: Scope = "answer"
    fpr: Fraction = 0.05

    def score(self, scores: Arrays) -> Floats:
        """Mean log-probability [n]."""
        return mean_logp(scores, self.scope)
