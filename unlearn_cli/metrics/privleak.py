"""Privacy leakage relative to gold (Shi et al. 2024, MUSE, arXiv 2407.06460).

MUSE ranks Min-K% with its area A the other way round: A = P(holdout looks more like a member than forget) = 1 - AUC
with AUC as `mia_min_k/forget` has it. So PrivLeak = 100 ((1 - AUC) - (1 - AUC_gold)) / (1 - AUC_gold). Without a gold
model MUSE has no value; OpenUnlearning takes AUC_gold = 0.5, offered as `fallback_auc`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from unlearn_cli.component import Fraction, component
from unlearn_cli.evaluation import Evaluation, MetricValue, Reading, Role
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.mia import MembershipInference
from unlearn_cli.metrics.mia_min_k import MiaMinK
from unlearn_cli.metrics.readings import measured, skipped
from unlearn_cli.metrics.roc import Statistic, auc, statistics
from unlearn_cli.metrics.token_metric import Scope
from unlearn_cli.observations.base import Observation

Areas = Mapping[Role, Statistic]


@component
class Privleak(Metric):
    """Per cent; 0 is ideal, negative means that membership still shows (-100 at worst), positive over-unlearning.

    Undefined where gold tells forget from holdout perfectly; it explodes as gold's area nears 1.
    """

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "privleak"
    needs: ClassVar[frozenset[Role]] = frozenset({"edited"})

    scope: Scope = "answer"
    k: Fraction = 0.4
    fallback_auc: Fraction | None = None

    @property
    def attack(self) -> MiaMinK:
        """Min-K%."""
        return MiaMinK(scope=self.scope, k=self.k)

    @property
    def observations(self) -> tuple[Observation, ...]:
        """The attack's."""
        return self.attack.observations

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`privleak`."""
        found = areas(evaluation, self.attack)
        if "gold" not in found and self.fallback_auc is not None and found:
            assumed = np.full(evaluation.bootstrap.samples, self.fallback_auc)
            found["gold"] = Statistic(self.fallback_auc, assumed, 0, found["edited"].clusters)
        reason = undefined(found)
        if reason:
            return {self.name: skipped("%", "to_gold", reason)}
        if found["gold"].value == 1:
            return {self.name: skipped("%", "to_gold", "gold tells forget from holdout perfectly")}
        read = {role: self._read(found[role], found["gold"], evaluation) for role in found}
        return {self.name: measured(read["edited"], "%", "to_gold", base=read.get("base"), gold=read["gold"])}

    def _read(self, mine: Statistic, gold: Statistic, evaluation: Evaluation) -> Reading:
        with np.errstate(divide="ignore", invalid="ignore"):
            draws = 100 * (gold.draws - mine.draws) / (1 - gold.draws)
        value = 100 * (gold.value - mine.value) / (1 - gold.value)
        return Statistic(value, draws, mine.items, mine.clusters).reading(evaluation.bootstrap)


def areas(evaluation: Evaluation, attack: MembershipInference) -> dict[Role, Statistic]:
    """AUC of forget vs holdout by each role that has models; empty where it is undefined."""
    sides = attack.sides(evaluation)
    reads = {"auc": auc}
    return {role: statistics(models, reads, evaluation.bootstrap)["auc"] for role, models in sides.items() if models}


def undefined(found: Areas) -> str | None:
    """Why there is nothing to compare with gold."""
    if not found:
        return "forget and holdout share no relation and template, or one of them is empty"
    return None if "gold" in found else "there is no gold model: gold.n=0"
