"""TOFU's model utility: one number for all that is to stay.

Maini et al. 2024 (arXiv 2401.06121), section 2.2.3: the harmonic mean of probability, ROUGE-L recall and truth ratio on
three sets. Sets: see `metrics/tofu.py`; the interval computes the mean anew in each resample.
Trap: it sinks with its worst part, by design: HM of eight times 0.9 and once 0.1 is 0.4765. The nine stand beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from unlearn_cli.component import component
from unlearn_cli.evaluation import Evaluation, MetricValue, Role
from unlearn_cli.metrics.probing import ROLES
from unlearn_cli.metrics.readings import skipped
from unlearn_cli.metrics.utility import NUMBERS, UtilityMetric, combined, flat
from unlearn_cli.metrics.valuing import from_parts

NAME, UNIT = "model_utility", "utility"


@component
class ModelUtility(UtilityMetric):
    """Harmonic mean of {probability, rouge, truth_ratio} x {retain, near, far}, 0 to 1; ideal is the base's.

    `model_utility` is the mean, `model_utility/<measure>/<set>` are the nine.
    """

    VERSION: ClassVar[int] = 1
    needs: ClassVar[frozenset[Role]] = frozenset({"edited"})

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`model_utility`, `model_utility/<probability|rouge|truth_ratio>/<retain|near|far>`."""
        if why := self.why_not(evaluation):
            return {NAME: skipped(UNIT, "higher", why)}
        nine = {role: self.nine(evaluation, role) for role in ROLES}
        parts = {role: flat(found) for role, found in nine.items()}
        combine = combined(nine["edited"])
        values = {NAME: from_parts(parts, evaluation.bootstrap, UNIT, "higher", combine=combine)}
        for number, (measure, name) in enumerate(NUMBERS):
            one = {role: nine[role][number] for role in ROLES}
            values[f"{NAME}/{measure}/{name}"] = from_parts(one, evaluation.bootstrap, UNIT, "higher")
        return values
