"""TOFU's probability: of the answer, and of the answer among wrong ones.

Maini et al. 2024 (arXiv 2401.06121), section 2.2.1. Forget and retain set: P(a | q)^(1 / tokens). The two others are
multiple choice: the same over the sum of it and of `wrong` wrong answers (3 options as published; TOFU perturbs
forget and retain answers 5 times). Sets: see `metrics/tofu.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from unlearn_cli.component import Count, component
from unlearn_cli.evaluation import Direction, Evaluation, Floats, Ids, MetricValue, Predictions, Role
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.probing import Score
from unlearn_cli.metrics.readings import skipped
from unlearn_cli.metrics.targets import FACTS
from unlearn_cli.metrics.tofu import facts_of, option_shares, splits_in, token_logps, tokens_of, why_no_set
from unlearn_cli.metrics.valuing import valued
from unlearn_cli.observations.base import Observation

NAME, UNIT = "tofu_probability", "probability"
PLAIN = ("forget", "retain")


@component
class TofuProbability(Metric):
    """Length-normalised probability of the answer on forget and retain, its share among options on near and far.

    0 to 1. Forget: best at gold's; the others higher. A uniform model has 1 / (wrong + 1) on near and far.
    """

    VERSION: ClassVar[int] = 1
    needs: ClassVar[frozenset[Role]] = frozenset({"edited"})

    wrong: Count = 5

    @property
    def observations(self) -> tuple[Observation, ...]:
        """How many objects each relation has, and how long they are."""
        return (FACTS,)

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`tofu_probability/<forget|retain|near|far>`."""
        return {f"{NAME}/{name}": self._value(evaluation, name) for name in ("forget", "retain", "near", "far")}

    def _value(self, evaluation: Evaluation, name: str) -> MetricValue:
        direction: Direction = "to_gold" if name == "forget" else "higher"
        if why := why_no_set(evaluation, name):
            return skipped(UNIT, direction, why)
        score = probability_score(evaluation, name, self.wrong)
        return valued(evaluation, splits_in(evaluation, name), score, UNIT, direction)


def probability_score(evaluation: Evaluation, name: str, wrong: int) -> Score:
    """The probability that counts on a set."""
    if name not in PLAIN:
        return option_shares(evaluation, wrong)
    facts = facts_of(evaluation)

    def score(predictions: Predictions, rows: Ids, answer: Ids) -> Floats:
        found: Floats = np.exp(token_logps(predictions, rows, answer, tokens_of(facts, rows, answer)))
        return found

    return score
