"""The nine numbers of TOFU's model utility: what `model_utility` and `utility_delta` share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from unlearn_cli.component import Count, component
from unlearn_cli.evaluation import Evaluation, Floats, Role
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.edit_score import harmonic_mean
from unlearn_cli.metrics.probing import scored
from unlearn_cli.metrics.targets import FACTS
from unlearn_cli.metrics.tofu import SETS, Average, splits_in, truth_ratio_parts, truthfulness, why_no_set
from unlearn_cli.metrics.tofu_probability import probability_score
from unlearn_cli.metrics.tofu_rouge import answers, rouge_parts
from unlearn_cli.observations.base import Observation
from unlearn_cli.statistics import Part, mean_of_present

NUMBERS = [(measure, name) for name in SETS for measure in ("probability", "rouge", "truth_ratio")]


@component
class UtilityMetric(Metric):
    """A metric that reads the nine, and how they are measured."""

    wrong: Count = 5
    average: Average = "geometric"
    max_new_tokens: Count | None = None

    @property
    def observations(self) -> tuple[Observation, ...]:
        """The relations behind the probes, and the answers."""
        return (FACTS, answers(self.max_new_tokens))

    def why_not(self, evaluation: Evaluation) -> str | None:
        """Why a number is missing; None if none is."""
        missing = [f"{name}: {why}" for name in SETS if (why := why_no_set(evaluation, name))]
        if not missing and not evaluation.seen(answers(self.max_new_tokens), "edited"):
            missing = ["no answer was generated"]
        return "; ".join(missing) or None

    def nine(self, evaluation: Evaluation, role: Role) -> list[list[Part]]:
        """The parts of each number, in the order of NUMBERS, one for each split; empty when the role is absent."""
        return [self._parts(evaluation, role, name, measure) for measure, name in NUMBERS]

    def _parts(self, evaluation: Evaluation, role: Role, name: str, measure: str) -> list[Part]:
        splits = splits_in(evaluation, name)
        if measure == "probability":
            return scored(evaluation, role, splits, probability_score(evaluation, name, self.wrong))
        if measure == "rouge":
            return rouge_parts(evaluation, role, name, self.max_new_tokens)
        return truth_ratio_parts(evaluation, role, splits, self.wrong, self.average, truthfulness)


def flat(nine: Sequence[Sequence[Part]]) -> list[Part]:
    """All parts in a row, as `combined` takes their means."""
    return [part for parts in nine for part in parts]


def combined(nine: Sequence[Sequence[Part]]) -> Callable[[Floats], Floats]:
    """From means of all parts [..., K] of numbers that have as many as `nine` to their harmonic mean [...]."""
    ends = np.cumsum([len(parts) for parts in nine])[:-1]

    def combine(means: Floats) -> Floats:
        return harmonic_mean(np.stack([mean_of_present(part) for part in np.split(means, ends, axis=-1)], axis=-1))

    return combine
