"""How far a model's answers are from what can still be said of the forgotten facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from unlearn_cli.component import component
from unlearn_cli.evaluation import Evaluation, MetricValue, Role, Split
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.distributions import Distance, kl, tv, with_rest
from unlearn_cli.metrics.probing import ROLES, splits_of, why_empty
from unlearn_cli.metrics.readings import mean_reading, measured, skipped, with_items
from unlearn_cli.metrics.targets import Targets
from unlearn_cli.statistics import Part

NAME = "distance_to_posterior"
INSTEAD = "the request names what is to be answered instead"
UNKNOWN = "of real text nobody knows what can still be said"
DISTANCES: Mapping[str, tuple[Distance, str]] = {"kl": (kl, "nats"), "tv": (tv, "probability")}


@component
class DistanceToPosterior(Metric):
    """KL(posterior || model) and total variation on the forgotten facts: calibrated forgetting.

    The posterior is the world's own: the distribution of the object given everything that is still trained, uniform
    where nothing is left to infer it from. Unlike gold it has no noise of a training run. The model's distribution is
    over the relation's objects and one class for all else, which the posterior rules out.
    """

    VERSION: ClassVar[int] = 1
    needs: ClassVar[frozenset[Role]] = frozenset({"edited"})

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`distance_to_posterior/<kl|tv>/forget`."""
        return {
            f"{NAME}/{kind}/forget": _value(evaluation, distance, unit) for kind, (distance, unit) in DISTANCES.items()
        }


def _value(evaluation: Evaluation, distance: Distance, unit: str) -> MetricValue:
    splits = splits_of(evaluation.probes, "forget")
    if not splits:
        return skipped(unit, "lower", why_empty(evaluation.probes, "forget"))
    if splits[0].posterior is None:
        return skipped(unit, "lower", INSTEAD if Targets.of(evaluation.probes).changed else UNKNOWN)
    parts = {role: _parts(evaluation, role, splits[0], distance) for role in ROLES}
    read = {role: mean_reading(found, evaluation.bootstrap) for role, found in parts.items()}
    value = measured(read["edited"], unit, "lower", base=read["base"], gold=read["gold"])
    return with_items(value, parts, splits[0].rows)


def _parts(evaluation: Evaluation, role: Role, split: Split, distance: Distance) -> Sequence[Part]:
    """Every item's distance, averaged over the role's models; empty when the role is absent."""
    models = evaluation.predictions.get(role, ())
    if not models:
        return []
    assert split.posterior is not None
    closed = np.concatenate([split.posterior, np.zeros((len(split.rows), 1))], axis=1)
    with np.errstate(divide="ignore"):
        ideal = np.log(closed)
    values = [distance(ideal, with_rest(model.candidate_logps[split.rows])) for model in models]
    return [Part(np.mean(values, axis=0), evaluation.probes.cluster[split.rows])]
