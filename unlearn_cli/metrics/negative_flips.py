"""Which answers an edit turned: kept, lost, gained, never right.

Negative flips: Echterhoff et al. 2024 (MUSCLE, arXiv 2407.09435); churn: Jiang et al. 2022 (Churn Reduction via
Distillation, arXiv 2106.02654). An unchanged accuracy can hide as many losses as gains.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from unlearn_cli.component import component
from unlearn_cli.evaluation import Direction, Evaluation, Floats, Ids, MetricValue, Predictions, Role
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.probing import AGGREGATES, Score, splits_of, why_empty
from unlearn_cli.metrics.readings import skipped
from unlearn_cli.metrics.valuing import valued

NAME, UNIT = "negative_flips", "share"
KINDS = ("kept", "lost", "gained", "never", "churn", "inconsistency")
WANTED: Mapping[str, Direction] = {"kept": "higher", "lost": "lower", "gained": "higher"}


@component
class NegativeFlips(Metric):
    """Greedy answers of base and model, each right or wrong; shares of a split's probes, each 0 to 1.

    kept: both right; lost: the base only (negative flips); gained: the model only; never: neither; these add up to 1,
    and lost - gained is the drop of accuracy. churn: another answer, right or not; inconsistency: both wrong, and
    differently. All that is no object counts as one answer,
    the refusal as another. An unchanged model has lost = gained = churn = 0.
    """

    VERSION: ClassVar[int] = 1
    needs: ClassVar[frozenset[Role]] = frozenset({"base", "edited"})

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`negative_flips/<kind>/<split>` on `forget` and the must-not-change aggregates."""
        names = ["forget", *AGGREGATES]
        return {f"{NAME}/{kind}/{name}": _value(evaluation, kind, name) for kind in KINDS for name in names}


def _value(evaluation: Evaluation, kind: str, name: str) -> MetricValue:
    direction: Direction = "to_gold" if name == "forget" else WANTED.get(kind, "descriptive")
    splits = splits_of(evaluation.probes, name)
    if not splits:
        return skipped(UNIT, direction, why_empty(evaluation.probes, name))
    score = _score(evaluation, kind)
    return valued(evaluation, splits, score, UNIT, direction, proportion=True, roles=("edited", "gold"))


def _score(evaluation: Evaluation, kind: str) -> Score:
    (base,) = evaluation.predictions["base"]

    def score(predictions: Predictions, rows: Ids, answer: Ids) -> Floats:
        before, after = base.greedy[rows], predictions.greedy[rows]
        was, is_ = before == answer, after == answer
        flags = {
            "kept": was & is_,
            "lost": was & ~is_,
            "gained": ~was & is_,
            "never": ~was & ~is_,
            "churn": before != after,
            "inconsistency": ~was & ~is_ & (before != after),
        }
        return flags[kind].astype(np.float64)

    return score
