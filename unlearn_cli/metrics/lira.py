"""Membership by likelihood ratio: LiRA (Carlini et al. 2022, arXiv 2112.03570, algorithm 1).

Each fact has a test of its own: is the target's confidence more like that of shadows which were taught the fact, or
like that of shadows which were not? Confidence is log(p / (1 - p)) with p the probability of the whole object.

var=global shares one variance among all facts, which the paper advises below 64 shadows: here the mean of the facts'
own unbiased variances, in and out apart (the authors' code takes the spread of the uncentred matrix). Offline, the
statistic is z itself: Phi(z), as published, ranks alike but saturates into ties. Shadows are trained on half of the
subjects, so that they are a little surer than the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from unlearn_cli.component import Fraction, component
from unlearn_cli.evaluation import Evaluation, Floats, Role
from unlearn_cli.metrics.mia import MembershipInference
from unlearn_cli.metrics.shadowed import Spread, gaussian, inside, log_ratio, logits, scores_of


@component
class Lira(MembershipInference):
    """s = log N(phi; in) - log N(phi; out), offline (phi - mean_out) / sd_out; keys as in `mia.MembershipInference`."""

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "lira"
    needs: ClassVar[frozenset[Role]] = frozenset({"edited", "shadow"})

    k: Annotated[int, Field(ge=4, multiple_of=2)] = 16
    online: bool = True
    var: Spread = "global"
    fpr: Fraction = 0.05

    @property
    def shadows(self) -> int:
        """K."""
        return self.k

    def attack(self, evaluation: Evaluation, role: Role) -> Sequence[Floats]:
        """The ratio by each of the role's models."""
        if not evaluation.predictions.get(role):
            return []
        rows = evaluation.seen(self.observation, "edited")[0]["rows"]
        shadows = scores_of(evaluation, "shadow", rows, logits)[: self.k]
        taught = inside(evaluation, rows)[: self.k]
        target = scores_of(evaluation, role, rows, logits)
        if self.online:
            return list(log_ratio(target, shadows, taught, self.var))
        mean, variance = gaussian(shadows, ~taught, self.var)
        return list((target - mean) / np.sqrt(variance))
