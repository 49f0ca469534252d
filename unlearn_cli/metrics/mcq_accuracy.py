"""WMDP's multiple choice: the right one of four.

Li et al. 2024 (WMDP, arXiv 2403.03218) score the letter behind "Answer:". No sentence of a world has letters, which no
model has learned, so that options are scored by their own probability, as evaluation harnesses do in cloze form:
P(object | prompt), or relative to how probable it is where nothing is asked (PMI, Holtzman et al. 2021, arXiv
2104.08315). Distractors are objects of the same relation, drawn once for each fact. Scored so, an option's place does
not matter; what averaging over cyclic permutations would give, ties included, is 1 / ties.
Trap: below chance is knowledge, too: the answer is avoided.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from unlearn_cli.component import component
from unlearn_cli.evaluation import Arrays, Direction, Evaluation, Floats, Ids, MetricValue, Predictions, Role, Split
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.probing import ROLES, splits_of, why_empty
from unlearn_cli.metrics.readings import skipped
from unlearn_cli.metrics.targets import FACTS
from unlearn_cli.metrics.tofu import NO_FACTS, facts_of, wrong_of
from unlearn_cli.metrics.valuing import from_parts
from unlearn_cli.observations.base import Observation
from unlearn_cli.observations.object_priors import ObjectPriors
from unlearn_cli.statistics import Part

NAME, UNIT = "mcq_accuracy", "share"
SETS = ("forget", "retain/unseen", "holdout")
PRIORS = ObjectPriors()


@component
class McqAccuracy(Metric):
    """Share of questions whose right option scores highest, 0 to 1; chance is 1 / options, exactly a uniform model's.

    cloze by P(object | prompt), pmi by log P(object | prompt) - log P(object | nothing). Forget and holdout: best at
    gold's, near chance; retain higher.
    """

    VERSION: ClassVar[int] = 1
    needs: ClassVar[frozenset[Role]] = frozenset({"edited"})

    options: Annotated[int, Field(ge=2)] = 4

    @property
    def observations(self) -> tuple[Observation, ...]:
        """The relations behind the probes, and the objects' probabilities without a question."""
        return (FACTS, PRIORS)

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`mcq_accuracy/<cloze|pmi>/<split or aggregate>`."""
        return {
            f"{NAME}/{scoring}/{name}": self._value(evaluation, scoring, name)
            for scoring in ("cloze", "pmi")
            for name in SETS
        }

    def _value(self, evaluation: Evaluation, scoring: str, name: str) -> MetricValue:
        direction: Direction = "higher" if name.startswith("retain") else "to_gold"
        splits = splits_of(evaluation.probes, name)
        if not splits:
            return skipped(UNIT, direction, why_empty(evaluation.probes, name))
        if not evaluation.seen(FACTS, "edited"):
            return skipped(UNIT, direction, NO_FACTS)
        if scoring == "pmi" and not evaluation.seen(PRIORS, "edited"):
            return skipped(UNIT, direction, "the objects' probabilities without a question were not observed")
        parts = {role: self._parts(evaluation, role, splits, scoring) for role in ROLES}
        return from_parts(parts, evaluation.bootstrap, UNIT, direction, proportion=True)

    def _parts(self, evaluation: Evaluation, role: Role, splits: list[Split], scoring: str) -> list[Part]:
        models, priors = evaluation.predictions.get(role, ()), evaluation.seen(PRIORS, role)
        if scoring == "pmi" and len(priors) != len(models):
            return []
        facts, parts = facts_of(evaluation), []
        for split in splits if models else ():
            most, seed = self.options - 1, evaluation.bootstrap.seed
            wrong = wrong_of(facts, evaluation.probes, split.rows, split.answer, most, seed)
            options = np.concatenate([split.answer[:, None], wrong], axis=1)
            values = [
                _right(model, split.rows, options, facts, priors[i] if scoring == "pmi" else None)
                for i, model in enumerate(models)
            ]
            parts.append(Part(np.mean(values, axis=0), evaluation.probes.cluster[split.rows]))
        return parts


def _right(model: Predictions, rows: Ids, options: Ids, facts: Arrays, prior: Arrays | None) -> Floats:
    """1, or 1/ties, where the first of options [n, k] scores highest, else 0; -1 is no option."""
    scores = model.candidate_logps[rows[:, None], options].astype(np.float64)
    if prior is not None:
        scores = scores - prior["logps"][facts["relation"][rows][:, None], options]
    scores = np.where(options >= 0, scores, -np.inf)
    best = scores.max(axis=1)
    ties = (scores == best[:, None]).sum(axis=1)
    won = np.divide(scores[:, 0] == best, ties, out=np.zeros(len(rows)), where=ties > 0)
    return np.where(np.isnan(best), np.nan, won)
