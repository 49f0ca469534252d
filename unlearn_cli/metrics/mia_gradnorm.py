"""Membership by gradient norm: what was trained on pulls less at the weights.

Nasr et al. 2018 (arXiv 1812.00910); as in mimir and OpenUnlearning the mean over parameter tensors of each one's norm,
not the norm of the whole gradient. The model stays in evaluation mode (OpenUnlearning turns dropout on).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from unlearn_cli.component import Count, Fraction, component
from unlearn_cli.evaluation import Evaluation, Floats, Role
from unlearn_cli.metrics.attack import Budget
from unlearn_cli.metrics.mia import MembershipInference
from unlearn_cli.metrics.token_metric import Scope
from unlearn_cli.observations.gradient_norms import GradientNorms

MOST: dict[Budget, int] = {"small": 200, "paper": 2000}


@component
class MiaGradnorm(MembershipInference):
    """s = -norm of the loss gradient of the sentence: keys as `mia.MembershipInference` has them."""

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "mia_gradnorm"

    scope: Scope = "answer"
    p: Literal["2", "inf"] = "2"
    fpr: Fraction = 0.1
    most: Count | None = None  # null: 200 with a small budget, 2000 with the paper's
    budget: Budget = "small"

    @property
    def observation(self) -> GradientNorms:
        """Norms of a draw of sentences of each group."""
        return GradientNorms(scope=self.scope, p=self.p, most=self.most or MOST[self.budget])

    def attack(self, evaluation: Evaluation, role: Role) -> Sequence[Floats]:
        """The negated norms by each of the role's models."""
        return [-arrays["norm"] for arrays in evaluation.seen(self.observation, role)]
