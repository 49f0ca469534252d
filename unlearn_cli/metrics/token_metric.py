"""What every metric of memorised text is: a score of each sentence, averaged over requested facts and over the rest."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np

from unlearn_cli.evaluation import Arrays, Direction, Evaluation, Floats, MetricValue, Role
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.probing import ROLES, splits_of, why_empty
from unlearn_cli.metrics.readings import mean_reading, measured, skipped, with_items
from unlearn_cli.observations.base import Observation
from unlearn_cli.observations.token_scores import TokenScores
from unlearn_cli.statistics import Part

Scope = Literal["answer", "full"]  # the object's tokens given the prompt, or all behind the first of the sentence

GROUPS: Mapping[str, Direction] = {
    "forget": "to_gold",
    "holdout": "to_gold",
    "retain": "higher",
    "retain/seen": "higher",
    "retain/unseen": "higher",
}


class TokenMetric(Metric):
    """Subclasses give `items`; keys are `<name>/forget`, `/holdout`, `/retain`, `/retain/seen`, `/retain/unseen`.

    `retain` is the unweighted mean over must-not-change splits. Gold's items are averaged over the gold models.
    """

    needs: ClassVar[frozenset[Role]] = frozenset({"edited"})
    name: ClassVar[str]
    unit: ClassVar[str] = "share"

    @property
    def observations(self) -> tuple[Observation, ...]:
        """Every token of the sentences."""
        return (TokenScores(),)

    @abstractmethod
    def items(self, scores: Arrays) -> Floats:
        """Score each sentence [n] of `TokenScores`."""

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """One value for each group."""
        scores = {role: [self.items(found) for found in evaluation.seen(TokenScores(), role)] for role in ROLES}
        return {
            f"{self.name}/{group}": self._value(evaluation, group, direction, scores)
            for group, direction in GROUPS.items()
        }

    def _value(
        self, evaluation: Evaluation, group: str, direction: Direction, scores: Mapping[Role, list[Floats]]
    ) -> MetricValue:
        probes, splits = evaluation.probes, splits_of(evaluation.probes, group)
        if not splits:
            return skipped(self.unit, direction, why_empty(probes, group))
        rows = evaluation.seen(TokenScores(), "edited")[0]["rows"]
        parts = {
            role: [
                Part(np.mean(found, axis=0)[np.searchsorted(rows, split.rows)], probes.cluster[split.rows])
                for split in splits
            ]
            if found
            else []
            for role, found in scores.items()
        }
        read = {role: mean_reading(found, evaluation.bootstrap) for role, found in parts.items()}
        value = measured(read["edited"], self.unit, direction, base=read["base"], gold=read["gold"])
        return with_items(value, parts, splits[0].rows) if group in probes.splits else value


def in_scope(scores: Arrays, scope: Scope) -> Floats:
    """1 for the tokens [n, T] that count, else 0."""
    mask: Floats = scores["answer" if scope == "answer" else "real"].astype(np.float64)
    return mask
