"""RESTOR: does forgetting wrong facts bring back the right ones?

Rezaei et al. 2024 (RESTOR, arXiv 2411.00204). The base is the corrupted model and knows the old objects; gold is the
clean one and knows the new ones; a method that only forgets is not told the new ones. Exact match of greedy answers in
place of a judge, without examples in front; log-probabilities of the three kinds of answer in place of their options.
That is `edit=restore`, where a clean base is trained on with wrong facts (edits/restore.py). Any other request with
targets can be read so too (`edit=remap`), but there the base never knew the right facts: forgetting alone has nothing
to bring back, and recovery above chance would be inference from other facts. Then read it as the score of an editor on
RESTOR's scale, and of a forgetting method as its control.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from unlearn_cli.component import component
from unlearn_cli.evaluation import Evaluation, Floats, Ids, MetricValue, Predictions, Role
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.probing import Score, correct, scored, splits_of, why_empty
from unlearn_cli.metrics.readings import skipped
from unlearn_cli.metrics.targets import NO_TARGET, Targets, logps
from unlearn_cli.metrics.valuing import from_parts, valued
from unlearn_cli.statistics import Part

NAME = "restor"
LEAST = 0.02  # accuracy between corrupted and clean below which there is nothing to recover


@component
class Restor(Metric):
    """recovery = (accuracy - base's) / (gold's - base's) on the clean objects: 0 corrupted, 1 clean, any sign.

    forget_corrupt = 1 - share answering the corrupted object, 0 to 1. Forgetting without recovery has 1 and 0.
    clean, corrupted, other: mean log-probability, nats, of the two objects and of the relation's others.
    """

    VERSION: ClassVar[int] = 1
    needs: ClassVar[frozenset[Role]] = frozenset({"base", "edited", "gold"})

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`restor/<recovery|forget_corrupt|clean|corrupted|other>`."""
        probes = evaluation.probes
        empty = not splits_of(probes, "edited")
        why = why_empty(probes, "edited") if empty else None if Targets.of(probes).changed else NO_TARGET
        units = {"recovery": "ratio", "forget_corrupt": "share", "clean": "nats", "corrupted": "nats", "other": "nats"}
        if why:
            return {f"{NAME}/{kind}": skipped(unit, "higher", why) for kind, unit in units.items()}
        edited, forget = [probes.splits["edited"]], [probes.splits["forget"]]
        return {
            f"{NAME}/recovery": _recovery(evaluation),
            f"{NAME}/forget_corrupt": valued(evaluation, forget, _gone, "share", "higher", proportion=True),
            f"{NAME}/clean": valued(evaluation, edited, logps, "nats", "to_gold"),
            f"{NAME}/corrupted": valued(evaluation, forget, logps, "nats", "to_gold"),
            f"{NAME}/other": valued(evaluation, edited, _others(evaluation), "nats", "to_gold"),
        }


def _recovery(evaluation: Evaluation) -> MetricValue:
    split = [evaluation.probes.splits["edited"]]
    ends = [*scored(evaluation, "base", split, correct), *scored(evaluation, "gold", split, correct)]
    read: tuple[Role, ...] = ("edited", "base", "gold")
    parts: dict[Role, list[Part]] = {role: [*scored(evaluation, role, split, correct), *ends] for role in read}
    why = f"gold knows the clean objects in less than {LEAST} more of the cases than the base"
    return from_parts(parts, evaluation.bootstrap, "ratio", "higher", combine=_share, undefined=why)


def _share(means: Floats) -> Floats:
    model, corrupted, clean = means[..., 0], means[..., 1], means[..., 2]
    room = clean - corrupted
    return np.divide(model - corrupted, room, out=np.full(np.shape(room), np.nan), where=room >= LEAST)


def _gone(predictions: Predictions, rows: Ids, answer: Ids) -> Floats:
    return 1 - correct(predictions, rows, answer)


def _others(evaluation: Evaluation) -> Score:
    """Mean log-probability of the objects that are neither clean nor corrupted."""
    forget = evaluation.probes.splits["forget"]
    corrupted = dict(zip(forget.rows.tolist(), forget.answer.tolist(), strict=True))

    def score(predictions: Predictions, rows: Ids, answer: Ids) -> Floats:
        values = predictions.candidate_logps[rows].astype(np.float64)
        counted = np.isfinite(values) | np.isnan(values)
        for taken in (answer, np.array([corrupted[row] for row in rows.tolist()])):
            known = np.flatnonzero(taken >= 0)
            counted[known, taken[known]] = False
        return np.where(counted, values, 0.0).sum(axis=1) / counted.sum(axis=1)

    return score
