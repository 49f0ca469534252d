"""Whether forgetting reaches facts of the same request that the method was not shown.

Zhang, Choshen, Andreas 2024 (Unforgettable Generalization in Language Models, arXiv 2409.02228); the estimator is this
project's. What is wanted depends on the intent: removing a relation asks for a transfer of 1, removing records for
gold's. Needs an edit that shows a part of its facts only (`edit=collapse`). Chance is 1/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from unlearn_cli.component import component
from unlearn_cli.evaluation import Evaluation, Floats, Ids, MetricValue, Predictions, Role, Split
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.candidate_accuracy import CandidateAccuracy
from unlearn_cli.metrics.probing import Score, scored, splits_of, why_empty
from unlearn_cli.metrics.readings import Combine, skipped
from unlearn_cli.metrics.valuing import from_parts
from unlearn_cli.statistics import Part

NAME, UNIT = "forget_generalization", "ratio"
SPLITS = {"shown": "forget", "siblings": "forget_heldout"}
LEAST = 0.02  # knowledge above chance, or forgetting, below which there is no ratio
ROLES_READ: tuple[Role, ...] = ("edited", "gold")


@component
class ForgetGeneralization(Metric):
    """Forgetting rates fr = (base - model) / (base - chance) of accuracy among the objects, cut to 0 to 1.

    fr/shown on the requested facts, fr/siblings on those the method was not shown; transfer = siblings / shown, at
    least 0: 0 where only what was shown is gone, 1 where all alike.
    """

    VERSION: ClassVar[int] = 1
    needs: ClassVar[frozenset[Role]] = frozenset({"base", "edited"})

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`forget_generalization/<shown|siblings|transfer>`."""
        values = {f"{NAME}/{kind}": _value(evaluation, [name], _rates) for kind, name in SPLITS.items()}
        return values | {f"{NAME}/transfer": _value(evaluation, list(SPLITS.values()), _transfer)}


def _value(evaluation: Evaluation, names: list[str], combine: Combine) -> MetricValue:
    probes = evaluation.probes
    for name in names:
        if not splits_of(probes, name):
            return skipped(UNIT, "to_gold", why_empty(probes, name))
    splits = [probes.splits[name] for name in names]
    parts = {role: _parts(evaluation, role, splits) for role in ROLES_READ}
    undefined = f"the base knows, or the edit removed, less than {LEAST}"
    return from_parts(parts, evaluation.bootstrap, UNIT, "to_gold", combine=combine, undefined=undefined)


def _parts(evaluation: Evaluation, role: Role, splits: list[Split]) -> list[Part]:
    """Drop and what could drop, for each split."""
    (base,) = evaluation.predictions["base"]
    known = CandidateAccuracy().items

    def drop(predictions: Predictions, rows: Ids, answer: Ids) -> Floats:
        return known(base, rows, answer) - known(predictions, rows, answer)

    def above_chance(predictions: Predictions, rows: Ids, answer: Ids) -> Floats:
        return known(base, rows, answer) - 1 / np.isfinite(base.candidate_logps[rows]).sum(axis=1)

    scores: tuple[Score, ...] = (drop, above_chance)
    return [part for split in splits for score in scores for part in scored(evaluation, role, [split], score)]


def _rates(means: Floats) -> Floats:
    """Rates [..., 1] or, of several splits, [..., K], of means [..., 2 K]."""
    drop, room = means[..., 0::2], means[..., 1::2]
    rate = np.clip(np.divide(drop, room, out=np.full_like(drop, np.nan), where=room >= LEAST), 0.0, 1.0)
    return rate[..., 0] if rate.shape[-1] == 1 else rate


def _transfer(means: Floats) -> Floats:
    rate = _rates(means)
    shown, siblings = rate[..., 0], rate[..., 1]
    return np.divide(siblings, shown, out=np.full_like(shown, np.nan), where=shown >= LEAST)
