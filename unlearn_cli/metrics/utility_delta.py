"""What share of the base's general abilities is left.

OpenUnlearning (Dorna et al. 2025, arXiv 2506.12618) leaves out models below 0.8 of the base's utility.
For perplexity the ratio is base / model, so that 1 is no loss and less is damage throughout.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from unlearn_cli.component import component
from unlearn_cli.evaluation import Evaluation, Floats, Ids, MetricValue, Predictions, ProbeSet, Role
from unlearn_cli.metrics.answer_nll import AnswerNll
from unlearn_cli.metrics.probing import Score, correct, scored, splits_of, why_empty
from unlearn_cli.metrics.readings import Combine, skipped
from unlearn_cli.metrics.utility import UtilityMetric, combined, flat
from unlearn_cli.metrics.valuing import from_parts
from unlearn_cli.statistics import Part, mean_of_present

NAME, UNIT, ASKED = "utility_delta", "ratio", "retain/unseen"
READ: tuple[Role, ...] = ("edited", "gold")


@component
class UtilityDelta(UtilityMetric):
    """model / base of model utility and of accuracy on unseen facts that must not change; base / model of perplexity.

    1 is no loss; at least 0, above 1 a gain. Perplexity is exp(mean -log P) on the same unseen facts: of an object, or
    of a token where answers differ in their number of tokens.
    """

    VERSION: ClassVar[int] = 2
    needs: ClassVar[frozenset[Role]] = frozenset({"base", "edited"})

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`utility_delta/<model_utility|accuracy|perplexity>`."""
        return {
            f"{NAME}/model_utility": self._of_utility(evaluation),
            f"{NAME}/accuracy": _of_scores(evaluation, correct, _ratio),
            f"{NAME}/perplexity": _of_scores(evaluation, _nll(evaluation.probes), _perplexity_ratio),
        }

    def _of_utility(self, evaluation: Evaluation) -> MetricValue:
        if why := self.why_not(evaluation):
            return skipped(UNIT, "higher", why)
        base = self.nine(evaluation, "base")
        combine = combined(base)
        parts = {role: _beside(flat(self.nine(evaluation, role)), flat(base)) for role in READ}

        def of_both(means: Floats) -> Floats:
            ours, theirs = np.split(means, 2, axis=-1)
            return _quotient(combine(ours), combine(theirs))

        return from_parts(
            parts, evaluation.bootstrap, UNIT, "higher", combine=of_both, undefined="the base has no utility"
        )


def _of_scores(evaluation: Evaluation, score: Score, combine: Combine) -> MetricValue:
    splits = splits_of(evaluation.probes, ASKED)
    if not splits:
        return skipped(UNIT, "higher", why_empty(evaluation.probes, ASKED))
    base = scored(evaluation, "base", splits, score)
    parts = {role: _beside(scored(evaluation, role, splits, score), base) for role in READ}
    return from_parts(
        parts, evaluation.bootstrap, UNIT, "higher", combine=combine, undefined="the base knows no such fact"
    )


def _beside(ours: list[Part], base: list[Part]) -> list[Part]:
    return [*ours, *base] if ours else []


def _nll(probes: ProbeSet) -> Score:
    def score(predictions: Predictions, rows: Ids, answer: Ids) -> Floats:
        return probes.per_token(AnswerNll().items(predictions, rows, answer), rows, answer)

    return score


def _ratio(means: Floats) -> Floats:
    ours, theirs = np.split(means, 2, axis=-1)
    return _quotient(mean_of_present(ours), mean_of_present(theirs))


def _perplexity_ratio(means: Floats) -> Floats:
    ours, theirs = np.split(means, 2, axis=-1)
    return np.exp(mean_of_present(theirs) - mean_of_present(ours))


def _quotient(a: Floats, b: Floats) -> Floats:
    return np.divide(a, b, out=np.full(np.shape(a), np.nan), where=np.asarray(b) > 0)
