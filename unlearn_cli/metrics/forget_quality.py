"""TOFU's forget quality: can the edited model's truth ratios be told from gold's?

Maini et al. 2024 (arXiv 2401.06121), section 2.2.2: p-value of the two-sample Kolmogorov-Smirnov test between the truth
ratios of the forget set under the edited model and under gold; above 0.05 equality is not rejected. The items are
facts. With several golds D and log10 p are means over them; `pvalue` is 10 to that mean.
Traps: p depends on the number of facts, so compare equal numbers only; passing says nothing of single facts, hence the
paired distance beside it; monotone transformations of the ratio change nothing. There is no interval on a p-value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from unlearn_cli.component import Count, component
from unlearn_cli.evaluation import Direction, Evaluation, Floats, Ids, MetricValue, Predictions, Reading, Role
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.gold_pairs import Pair, pairs_with_gold
from unlearn_cli.metrics.probing import ROLES
from unlearn_cli.metrics.readings import measured, skipped
from unlearn_cli.metrics.targets import FACTS
from unlearn_cli.metrics.tofu import Average, log_truth_ratios, paraphrases, why_no_set
from unlearn_cli.metrics.valuing import from_parts
from unlearn_cli.observations.base import Observation
from unlearn_cli.statistics import Part

NAME = "forget_quality"
LEAST_P = 1e-300  # smaller p-values are this
KINDS: Mapping[str, tuple[str, Direction]] = {
    "pvalue": ("probability", "higher"),
    "log10_p": ("log10", "higher"),
    "statistic": ("probability", "lower"),
}


@component
class ForgetQuality(Metric):
    """How far the truth ratios are from gold's.

    pvalue, 0 to 1, ideal 1; log10_p, at least -300, ideal 0; statistic D, the largest distance of the two distribution
    functions, 0 to 1, ideal 0; paired = mean |log TR - log TR of gold|, nats, ideal that between golds. The base's
    column is where the edit began; gold's is between golds, if there are several.
    """

    VERSION: ClassVar[int] = 1
    needs: ClassVar[frozenset[Role]] = frozenset({"edited", "gold"})

    wrong: Count = 5
    average: Average = "geometric"

    @property
    def observations(self) -> tuple[Observation, ...]:
        """How many objects each relation has, how long they are, and which phrasings are held out."""
        return (FACTS,)

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`forget_quality/<pvalue|log10_p|statistic|paired>`."""
        if why := why_no_set(evaluation, "forget"):
            units: dict[str, tuple[str, Direction]] = {**KINDS, "paired": ("nats", "lower")}
            return {f"{NAME}/{kind}": skipped(unit, direction, why) for kind, (unit, direction) in units.items()}
        tests = {role: self._tests(evaluation, pairs_with_gold(evaluation, role)) for role in ROLES}
        values = {}
        for kind, (unit, direction) in KINDS.items():
            read = {role: tests[role].get(kind) for role in ROLES}
            values[f"{NAME}/{kind}"] = measured(read["edited"], unit, direction, base=read["base"], gold=read["gold"])
        parts = {role: self._paired(evaluation, pairs_with_gold(evaluation, role)) for role in ROLES}
        return values | {f"{NAME}/paired": from_parts(parts, evaluation.bootstrap, "nats", "lower")}

    def _tests(self, evaluation: Evaluation, pairs: Sequence[Pair]) -> dict[str, Reading]:
        found = [ks_test(*(self._logs(evaluation, model)[1] for model in pair)) for pair in pairs]
        if not found or any(test is None for test in found):
            return {}
        n = len(self._logs(evaluation, pairs[0][0])[1])
        statistic, log10 = (float(np.mean(column)) for column in zip(*filter(None, found), strict=True))
        return {
            "pvalue": Reading(10**log10, n),
            "log10_p": Reading(log10, n),
            "statistic": Reading(statistic, n),
        }

    def _paired(self, evaluation: Evaluation, pairs: Sequence[Pair]) -> list[Part]:
        distances = []
        for gold, model in pairs:
            rows, theirs = self._logs(evaluation, gold)
            distances.append(np.abs(self._logs(evaluation, model)[1] - theirs))
        return [Part(np.mean(distances, axis=0), evaluation.probes.cluster[rows])] if distances else []

    def _logs(self, evaluation: Evaluation, model: Predictions) -> tuple[Ids, Floats]:
        return log_truth_ratios(evaluation, model, paraphrases(evaluation), self.wrong, self.average)


def ks_test(a: Floats, b: Floats) -> tuple[float, float] | None:
    """D and log10 p of the two-sided two-sample test; None where a value is not finite."""
    from scipy.stats import ks_2samp

    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return None
    found = ks_2samp(a, b)
    return float(found.statistic), math.log10(max(float(found.pvalue), LEAST_P))
