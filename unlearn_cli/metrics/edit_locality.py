"""Whether an edit left alone what it was not about.

ROME, Meng et al. 2022 (arXiv 2202.05262), section 3.4: NS and NM, on other subjects of the relation that hold the old
object. Agreement and drift: "f_after(x) = f_before(x) off scope", Yao et al. 2023 (arXiv 2305.13172).
Drift is on the relation's objects and one class for all else, a bound from below of that over the vocabulary.
Trap: NS compares two objects only: a model that lost the old one for a third still scores 1, so read `agree` beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np

from unlearn_cli.component import component
from unlearn_cli.evaluation import Direction, Evaluation, Floats, Ids, MetricValue, Predictions, Role, Split
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.distributions import kl, with_rest
from unlearn_cli.metrics.probing import AGGREGATES, Score, splits_of, why_empty
from unlearn_cli.metrics.readings import skipped
from unlearn_cli.metrics.targets import FACTS, Score2, Targets, fair_logps, margin, prefers, rivals
from unlearn_cli.metrics.valuing import valued
from unlearn_cli.observations.base import Observation

NAME = "edit_locality"
NEIGHBOURS = "same_value_old/unseen"  # the part that the method could not train on
NO_RELATIONS = "the relations of the probes were not observed"
KINDS: dict[str, tuple[Score2, str]] = {"success": (prefers, "share"), "magnitude": (margin, "probability")}


@component
class EditLocality(Metric):
    """NS, NM, and how far the answers moved from the base's.

    success = share of neighbours, unseen facts with the same relation and old object, for which P(old) > P(new), ties
    failing, 0 to 1; magnitude = mean P(old) - P(new), -1 to 1: ideal is the base's. agree = share of equal greedy
    answers, 0 to 1, ideal 1; drift = mean KL(base || model), at least 0 nats, ideal 0: on every must-not-change split.
    """

    VERSION: ClassVar[int] = 2
    needs: ClassVar[frozenset[Role]] = frozenset({"base", "edited"})

    @property
    def observations(self) -> tuple[Observation, ...]:
        """Which relation each probe is about."""
        return (FACTS,)

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`edit_locality/<success|magnitude>`, `edit_locality/<agree|drift>/<split or aggregate>`."""
        values = {f"{NAME}/{kind}": _neighbours(evaluation, *how) for kind, how in KINDS.items()}
        kept = [name for name, split in evaluation.probes.splits.items() if split.must_not_change]
        for name in [*kept, *AGGREGATES]:
            values[f"{NAME}/agree/{name}"] = _moved(evaluation, name, agreement(evaluation), "share")
            values[f"{NAME}/drift/{name}"] = _moved(evaluation, name, _drift(evaluation), "nats")
        return values


def neighbour_score(evaluation: Evaluation, compare: Score2) -> tuple[Score, Split] | str:
    """How the old object fares against what replaced it, and the neighbours; or why there is no such score."""
    probes = evaluation.probes
    if why := Targets.of(probes).why_not:
        return why
    if not splits_of(probes, NEIGHBOURS):
        return why_empty(probes, NEIGHBOURS)
    split = probes.splits[NEIGHBOURS]
    against = rivals(evaluation, split)
    if against is None:
        return NO_RELATIONS
    rival = dict(zip(split.rows.tolist(), against, strict=True))
    asked = np.array([bool(found) for found in against])  # of many requested facts only some are asked
    split = replace(split, rows=split.rows[asked], answer=split.answer[asked])
    if not asked.any():
        return "no neighbour holds the object of a requested fact that is asked"

    def score(predictions: Predictions, rows: Ids, answer: Ids) -> Floats:
        """Mean over the objects that replaced it, where there are several."""
        values = np.empty(len(rows))
        for i, (row, old) in enumerate(zip(rows.tolist(), answer.tolist(), strict=True)):
            new = np.array(rival[row])
            same = np.full(len(new), row)
            was, now = (fair_logps(probes, predictions, same, one) for one in (np.full(len(new), old), new))
            values[i] = compare(was, now).mean()
        return values

    return score, split


def _neighbours(evaluation: Evaluation, compare: Score2, unit: str) -> MetricValue:
    found = neighbour_score(evaluation, compare)
    if isinstance(found, str):
        return skipped(unit, "higher", found)
    score, split = found
    return valued(evaluation, [split], score, unit, "higher", proportion=unit == "share")


def _moved(evaluation: Evaluation, name: str, score: Score, unit: str) -> MetricValue:
    splits = splits_of(evaluation.probes, name)
    direction: Direction = "higher" if unit == "share" else "lower"
    if not splits:
        return skipped(unit, direction, why_empty(evaluation.probes, name))
    return valued(evaluation, splits, score, unit, direction, proportion=unit == "share")


def agreement(evaluation: Evaluation) -> Score:
    """1 where the greedy answer is the base's; all that is no object counts as one answer."""
    (base,) = evaluation.predictions["base"]

    def score(predictions: Predictions, rows: Ids, answer: Ids) -> Floats:
        return (predictions.greedy[rows] == base.greedy[rows]).astype(np.float64)

    return score


def _drift(evaluation: Evaluation) -> Score:
    (base,) = evaluation.predictions["base"]

    def score(predictions: Predictions, rows: Ids, answer: Ids) -> Floats:
        return kl(with_rest(base.candidate_logps[rows]), with_rest(predictions.candidate_logps[rows]))

    return score
