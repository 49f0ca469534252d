"""Membership by quantile regression: how surprising is the score of a sentence, among sentences like it?

Bertran et al. 2023 (arXiv 2307.03694): q(x), the 1 - alpha quantile of the score of non-members like x, is regressed on
non-members of the attacker's; s(x) - q(x) ranks all others, and above 0 it says member. No shadow models. In Membership
Inference for Unseen Classes (Thaker et al. 2025, arXiv 2506.06488) the attacker has no data of some classes, here of
the relations in `unseen`, and only facts of these are attacked.

Published regressors are networks on the text. Here nothing about a sentence but its relation and its template can say
how probable a stranger's object is, so q is linear in these (the exact solution, scikit-learn's QuantileRegressor). The
score is log(p / (1 - p)) of the object. Half of the reserved subjects fit q, the others are attacked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from unlearn_cli.component import Fraction, Natural, component
from unlearn_cli.evaluation import Direction, Evaluation, Floats, Ids, MetricValue, Reading, Role
from unlearn_cli.metrics.mia import NONMEMBERS, MembershipInference
from unlearn_cli.metrics.probing import splits_of
from unlearn_cli.metrics.readings import mean_reading, measured, skipped
from unlearn_cli.metrics.roc import Sides
from unlearn_cli.metrics.shadowed import logits, scores_of
from unlearn_cli.statistics import Part
from unlearn_cli.streams import generator

PENALTY = 1e-4  # on the weights, not on the constant: what is never seen gets the constant's quantile


@component
class MiaQuantile(MembershipInference):
    """s = logit - its quantile among non-members; keys as in `mia.MembershipInference`, and two at the threshold 0.

    `/member_rate`: share of requested facts above the quantile, best where gold is; `/false_rate`: the same of
    holdout facts that did not fit it, which should be near alpha (descriptive).
    """

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "mia_quantile"
    needs: ClassVar[frozenset[Role]] = frozenset({"edited"})

    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05
    unseen: list[Natural] = Field(default_factory=list)
    fpr: Fraction = 0.1

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """The harness's keys, `/member_rate` and `/false_rate`."""
        if not len(self._fitting(evaluation)):
            reason = f"no {NONMEMBERS} fact is left to fit the quantile to"
            return {f"{self.name}/forget": skipped("auc", "to_gold", reason)}
        return {**super().compute(evaluation), **self._at_threshold(evaluation)}

    def attackable(self, evaluation: Evaluation) -> Ids:
        """All probes but the fitted ones; only unseen relations, if there are any."""
        seen = evaluation.seen(self.observation, "edited")[0]
        chosen = ~np.isin(evaluation.probes.subject[seen["rows"]], self._attackers(evaluation))
        if self.unseen:
            chosen &= np.isin(seen["relation"], self.unseen)
        rows: Ids = seen["rows"][chosen]
        return rows

    def attack(self, evaluation: Evaluation, role: Role) -> Sequence[Floats]:
        """Score less quantile, by each of the role's models."""
        if not evaluation.predictions.get(role):
            return []
        seen = evaluation.seen(self.observation, "edited")[0]
        features = _features(seen["relation"], evaluation.probes.template[seen["rows"]])
        fitting = np.searchsorted(seen["rows"], self._fitting(evaluation))
        scores = scores_of(evaluation, role, seen["rows"], logits)
        return [score - quantile(features, score, fitting, 1 - self.alpha) for score in scores]

    def _attackers(self, evaluation: Evaluation) -> Ids:
        """The reserved subjects that the attacker knows: half of them."""
        rows = [split.rows for split in splits_of(evaluation.probes, NONMEMBERS)]
        subjects = np.unique(evaluation.probes.subject[np.concatenate(rows)]) if rows else np.empty(0, dtype=np.int64)
        order = generator(evaluation.bootstrap.seed, self.name).permutation(subjects)
        known: Ids = order[: len(order) // 2]
        return known

    def _fitting(self, evaluation: Evaluation) -> Ids:
        """Rows of the attacker's own non-members."""
        seen = evaluation.seen(self.observation, "edited")
        if not seen:
            return np.empty(0, dtype=np.int64)
        known = np.isin(evaluation.probes.subject[seen[0]["rows"]], self._attackers(evaluation))
        rows: Ids = seen[0]["rows"][known & ~np.isin(seen[0]["relation"], self.unseen)]
        return rows

    def _at_threshold(self, evaluation: Evaluation) -> dict[str, MetricValue]:
        """Shares above 0 of both sides."""
        keys: dict[str, Direction] = {"member_rate": "to_gold", "false_rate": "descriptive"}
        read = {role: _rates(models, evaluation) for role, models in self.sides(evaluation).items()}
        if not read:
            return {}
        return {
            f"{self.name}/{key}": measured(
                read["edited"].get(key), "share", to, base=read["base"].get(key), gold=read["gold"].get(key)
            )
            for key, to in keys.items()
        }


def _rates(models: Sequence[Sides], evaluation: Evaluation) -> dict[str, Reading | None]:
    """Share of members and of non-members above 0, averaged over `models`; empty without models."""
    found: dict[str, Reading | None] = {}
    for key in ("member_rate", "false_rate") if models else ():
        mine = [_side(model, key) for model in models]
        share = np.mean([part.values for part in mine], axis=0)
        found[key] = mean_reading([Part(share, mine[0].cluster)], evaluation.bootstrap)
    return found


def _side(model: Sides, key: str) -> Part:
    if key == "member_rate":
        return Part((model.members > 0).astype(np.float64), model.member_cluster)
    return Part((model.nonmembers > 0).astype(np.float64), model.nonmember_cluster)


def quantile(features: Floats, scores: Floats, fitting: Ids, share: float) -> Floats:
    """The `share` quantile of each score [n] given its features, fitted to the rows `fitting`."""
    from sklearn.linear_model import QuantileRegressor

    regression = QuantileRegressor(quantile=share, alpha=PENALTY, solver="highs")
    found: Floats = regression.fit(features[fitting], scores[fitting]).predict(features)
    return found


def _features(*columns: Ids) -> Floats:
    """Each column one-hot, side by side."""
    return np.concatenate([(column[:, None] == np.unique(column)).astype(np.float64) for column in columns], axis=1)
