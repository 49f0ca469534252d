"""One number of an edit: the harmonic mean of efficacy, generalisation and locality.

ROME, Meng et al. 2022 (arXiv 2202.05262), section 3.4: S = HM(ES, PS, NS). The interval resamples subjects jointly for
the three parts and computes the harmonic mean anew in each resample.
Trap: the three are comparisons of two objects; see `edit_efficacy` for what they hide.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from unlearn_cli.component import component
from unlearn_cli.evaluation import Evaluation, Floats, MetricValue, Role
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.edit_locality import neighbour_score
from unlearn_cli.metrics.probing import ROLES, scored, splits_of, why_empty
from unlearn_cli.metrics.readings import skipped
from unlearn_cli.metrics.targets import FACTS, Targets, prefers
from unlearn_cli.metrics.valuing import from_parts
from unlearn_cli.observations.base import Observation

UNIT = "share"


@component
class EditScore(Metric):
    """S = 3 / (1/ES + 1/PS + 1/NS), 0 to 1, 0 if a part is 0; ideal 1. The base, with ES 0, has 0."""

    VERSION: ClassVar[int] = 2
    needs: ClassVar[frozenset[Role]] = frozenset({"edited"})

    @property
    def observations(self) -> tuple[Observation, ...]:
        """Which relation each probe is about."""
        return (FACTS,)

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """One value, `edit_score`."""
        return {"edit_score": _value(evaluation)}


def harmonic_mean(values: Floats) -> Floats:
    """Over the last axis; 0 where any value is 0 or below, NaN where one is."""
    positive = (values > 0).all(axis=-1)
    inverse = np.divide(1.0, values, out=np.ones_like(values), where=values > 0)
    means = np.where(positive, values.shape[-1] / inverse.sum(axis=-1), 0.0)
    return np.where(np.isnan(values).any(axis=-1), np.nan, means)


def _value(evaluation: Evaluation) -> MetricValue:
    probes = evaluation.probes
    found = neighbour_score(evaluation, prefers)
    if isinstance(found, str):
        return skipped(UNIT, "higher", found)
    for name in ("edited", "edited_para"):
        if not splits_of(probes, name):
            return skipped(UNIT, "higher", why_empty(probes, name))
    score, neighbours = found
    preferred = Targets.of(probes).score(probes, prefers)
    written, otherwise = ([probes.splits[name]] for name in ("edited", "edited_para"))
    parts = {
        role: [
            *scored(evaluation, role, written, preferred),
            *scored(evaluation, role, otherwise, preferred),
            *scored(evaluation, role, [neighbours], score),
        ]
        for role in ROLES
    }
    return from_parts(parts, evaluation.bootstrap, UNIT, "higher", proportion=True, combine=harmonic_mean)
