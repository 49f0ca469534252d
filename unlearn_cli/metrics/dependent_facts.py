"""Whether facts composed of others follow an edit, leak what was forgotten, and agree with the model's own hops.

Chains subject -> object -> nested object after Behemoth (Iofinova & Alistarh 2026, arXiv 2601.23153) and MQuAKE (Zhong
et al. 2023, arXiv 2305.14795); consistency is this project's. Only chains whose composed fact the base states count:
where it did not know it, nothing can follow. Facts whose derived value is the old one are no evidence either way and
are in `dep_keep`. MQuAKE's generated reasoning has no counterpart here.
Trap: forgetting s -> o leaves s -> n a hint at o; what gold still answers is no leak.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from unlearn_cli.component import component
from unlearn_cli.evaluation import Arrays, Evaluation, Floats, MetricValue, Predictions, Role, Split
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.probing import ROLES, correct, splits_of, why_empty
from unlearn_cli.metrics.readings import skipped
from unlearn_cli.metrics.ripple import CLOSURE, ISOLATE
from unlearn_cli.metrics.valuing import from_parts, valued
from unlearn_cli.observations.base import Observation
from unlearn_cli.observations.hops import Hops
from unlearn_cli.statistics import Part

NAME, UNIT = "dependent_facts", "share"
BRIDGES = ("bridge/seen", "bridge/unseen")
HOPS = Hops()


@component
class DependentFacts(Metric):
    """Greedy answers along chains of facts, shares of 0 to 1.

    propagated: composed facts answered with the value derived from the new object; stale: with the old one; an edit
    that reasons has 1 and 0, one that only rewrites its fact 0 and 1. any_wording: of the composed facts that the base
    knows in any of the wordings asked, share answered with the derived value in any (MQuAKE's multi-hop accuracy).
    leak_2hop (forgetting): composed facts of forgotten ones still answered; best at gold's. bridge_keep: the object ->
    nested facts in between, which stay; ideal 1. consistency: of the chains that begin with a requested fact, share
    where the direct answer is the one reached over the model's own two hops; needs no truth, ideal 1.
    """

    VERSION: ClassVar[int] = 2
    needs: ClassVar[frozenset[Role]] = frozenset({"base", "edited"})

    @property
    def observations(self) -> tuple[Observation, ...]:
        """The model's own two hops."""
        return (HOPS,)

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`dependent_facts/<propagated|any_wording|stale|leak_2hop|bridge_keep|consistency>`."""
        return {
            f"{NAME}/propagated": _known(evaluation, CLOSURE),
            f"{NAME}/any_wording": _any_wording(evaluation),
            f"{NAME}/stale": _known(evaluation, ISOLATE),
            f"{NAME}/leak_2hop": _leak(evaluation),
            f"{NAME}/bridge_keep": _bridges(evaluation),
            f"{NAME}/consistency": _consistency(evaluation),
        }


def _known(evaluation: Evaluation, name: str) -> MetricValue:
    """Accuracy on one of the two readings of `dep_change`, where the base gives the old value."""
    probes = evaluation.probes
    if not splits_of(probes, name):
        return skipped(UNIT, "descriptive", why_empty(probes, name))
    split, old = probes.splits[name], probes.splits[ISOLATE]
    right = correct(evaluation.predictions["base"][0], old.rows, old.answer) == 1
    return _accuracy(evaluation, split, np.isin(split.rows, old.rows[right]))


def _any_wording(evaluation: Evaluation) -> MetricValue:
    """For each fact the best of its wordings."""
    probes = evaluation.probes
    if not splits_of(probes, CLOSURE):
        return skipped(UNIT, "descriptive", why_empty(probes, CLOSURE))
    new, old = probes.splits[CLOSURE], probes.splits[ISOLATE]
    facts, place = np.unique(probes.fact[new.rows], return_inverse=True)
    first = np.unique(place, return_index=True)[1]
    cluster = probes.cluster[new.rows][first]

    def best(predictions: Predictions, split: Split) -> Floats:
        right = np.zeros(len(facts))
        np.maximum.at(right, place, correct(predictions, split.rows, split.answer))
        return right

    known = best(evaluation.predictions["base"][0], old) == 1
    if not known.any():
        return skipped(UNIT, new.direction, f"the base knows no fact of {new.name}")
    found = {role: evaluation.predictions.get(role, ()) for role in ROLES}
    parts = {
        role: [Part(np.mean([best(model, new) for model in models], axis=0)[known], cluster[known])] if models else []
        for role, models in found.items()
    }
    return from_parts(parts, evaluation.bootstrap, UNIT, new.direction, proportion=True)


def _leak(evaluation: Evaluation) -> MetricValue:
    probes = evaluation.probes
    if not splits_of(probes, "dep_change"):
        return skipped(UNIT, "to_gold", why_empty(probes, "dep_change"))
    split = probes.splits["dep_change"]
    if split.direction != "to_gold":
        why = "what follows from the requested facts is not forgotten: the request changes or isolates it"
        return skipped(UNIT, "to_gold", why)
    right = correct(evaluation.predictions["base"][0], split.rows, split.answer) == 1
    return _accuracy(evaluation, split, right)


def _accuracy(evaluation: Evaluation, split: Split, kept: np.ndarray) -> MetricValue:
    if not kept.any():
        return skipped(UNIT, split.direction, f"the base knows no fact of {split.name}")
    known = Split(split.name, split.rows[kept], split.answer[kept], split.direction)
    return valued(evaluation, [known], correct, UNIT, split.direction, proportion=True)


def _bridges(evaluation: Evaluation) -> MetricValue:
    splits = [split for name in BRIDGES for split in splits_of(evaluation.probes, name)]
    if not splits:
        return skipped(UNIT, "higher", why_empty(evaluation.probes, BRIDGES[0]))
    return valued(evaluation, splits, correct, UNIT, "higher", proportion=True)


def _consistency(evaluation: Evaluation) -> MetricValue:
    parts = {role: _agreeing(evaluation, evaluation.seen(HOPS, role)) for role in ROLES}
    if not any(len(arrays["rows"]) for arrays in evaluation.seen(HOPS, "edited")):
        reason = "no requested fact leads on to another: this needs nested objects and edit.edge=so"
        return skipped(UNIT, "higher", reason)
    why = "no own answer leads on: none is an object that a subject has"
    return from_parts(parts, evaluation.bootstrap, UNIT, "higher", proportion=True, undefined=why)


def _agreeing(evaluation: Evaluation, models: tuple[Arrays, ...]) -> list[Part]:
    """Whether direct and two-hop answer are the same object, for the chains of all models that can be followed."""
    values, rows = [np.empty(0)], [np.empty(0, dtype=np.int64)]
    for arrays in models:
        followed = arrays["asked"]
        same = (arrays["direct"] == arrays["second"]) & (arrays["direct"] >= 0)
        values.append(same[followed].astype(np.float64))
        rows.append(arrays["rows"][followed])
    found = np.concatenate(rows)
    return [Part(np.concatenate(values), evaluation.probes.cluster[found])] if len(found) else []
