"""Membership relative to a population: RMIA (Zarifzadeh et al. 2024, arXiv 2312.03262).

LR(x, z) = (p(x) / Pr(x)) / (p(z) / Pr(z)), with p of the target and Pr the mean over shadows: online over those with
and without x, offline (1 + a) / 2 of the mean without it plus (1 - a) / 2. The population z is the holdout; an item is
not compared with itself. The paper counts LR >= gamma, its code LR > gamma, taken here; they differ at ties only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from unlearn_cli.component import Fraction, Positive, component
from unlearn_cli.evaluation import Evaluation, Floats, Ids, Role
from unlearn_cli.metrics.mia import NONMEMBERS, MembershipInference
from unlearn_cli.metrics.probing import splits_of
from unlearn_cli.metrics.shadowed import inside, logps, mean_where, scores_of


@component
class Rmia(MembershipInference):
    """s = share of the population z with LR(x, z) > gamma, 0 to 1: keys as `mia.MembershipInference` has them."""

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "rmia"
    needs: ClassVar[frozenset[Role]] = frozenset({"edited", "shadow"})

    k: Annotated[int, Field(ge=2, multiple_of=2)] = 4
    online: bool = False
    a: Fraction = 0.3
    gamma: Positive = 1.0
    fpr: Fraction = 0.05

    @property
    def shadows(self) -> int:
        """K."""
        return self.k

    def attack(self, evaluation: Evaluation, role: Role) -> Sequence[Floats]:
        """The share by each of the role's models."""
        population = [split.rows for split in splits_of(evaluation.probes, NONMEMBERS)]
        if not evaluation.predictions.get(role) or not population:
            return []
        rows = evaluation.seen(self.observation, "edited")[0]["rows"]
        shadows = np.exp(scores_of(evaluation, "shadow", rows, logps)[: self.k])
        prior = self.prior(shadows, inside(evaluation, rows)[: self.k])
        place = np.searchsorted(rows, np.concatenate(population))
        targets = np.exp(scores_of(evaluation, role, rows, logps))
        return [shares(target / prior, place, self.gamma) for target in targets]

    def prior(self, shadows: Floats, taught: np.ndarray) -> Floats:
        """Pr(x) from the shadows' probabilities [K, n]."""
        out = mean_where(shadows, ~taught)
        if self.online:
            return (out + mean_where(shadows, taught)) / 2
        return ((1 + self.a) * out + (1 - self.a)) / 2


def shares(ratio: Floats, population: Ids, gamma: float) -> Floats:
    """Share of the population's ratios that each ratio [n] exceeds gamma times, itself left out."""
    ordered = np.sort(gamma * ratio[population])
    below = np.searchsorted(ordered, ratio, side="left").astype(np.float64)
    others = np.full(len(ratio), len(population))
    own = np.zeros(len(ratio), dtype=bool)
    own[population] = True
    below -= own & (gamma * ratio < ratio)
    return below / np.maximum(others - own, 1)
