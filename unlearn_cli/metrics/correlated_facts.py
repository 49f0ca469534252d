"""Whether an edit travels along a statistical correlation, which implies nothing.

The correlated pair of Behemoth (Iofinova & Alistarh 2026, arXiv 2601.23153): relations 0 and 1 number their objects
alike and agree with a set probability. Reported, and judged only in that what was not requested must not change.
Partners that hold the new object anyway are left out of spill: keeping and spilling would be one there.
Trap: by default only facts that agree with their partner are edited (`edit.matched`), so that `/differ` is empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np

from unlearn_cli.component import component
from unlearn_cli.evaluation import Direction, Evaluation, Floats, Ids, MetricValue, Predictions, Role, Split
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.probing import correct, splits_of, why_empty
from unlearn_cli.metrics.readings import skipped
from unlearn_cli.metrics.valuing import valued

NAME, UNIT = "correlated_facts", "share"
KEEP, SPILL = ("correlated_partner/unseen", "correlated_partner/seen"), "correlated_partner_converted"


@component
class CorrelatedFacts(Metric):
    """Greedy answers about the requested subjects' other relation of the pair, shares of 0 to 1.

    keep: its own object, ideal 1; keep/agree and keep/differ where it held the requested fact's old object, or another.
    spill: the new object of the edit; spill_change: spill - the base's, -1 to 1; an edit that goes along has 1.
    """

    VERSION: ClassVar[int] = 1
    needs: ClassVar[frozenset[Role]] = frozenset({"base", "edited"})

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`correlated_facts/<keep|keep/agree|keep/differ|spill|spill_change>`."""
        return {
            f"{NAME}/keep": _value(evaluation, _kept(evaluation, None), "higher"),
            f"{NAME}/keep/agree": _value(evaluation, _kept(evaluation, True), "higher"),
            f"{NAME}/keep/differ": _value(evaluation, _kept(evaluation, False), "higher"),
            f"{NAME}/spill": _value(evaluation, _spilled(evaluation), "lower"),
            f"{NAME}/spill_change": _change(evaluation),
        }


def _kept(evaluation: Evaluation, agree: bool | None) -> list[Split] | str:
    """The partners' splits, or of each those that agree with the requested fact, or those that differ; or why none."""
    probes = evaluation.probes
    splits = [split for name in KEEP for split in splits_of(probes, name)]
    if not splits:
        return why_empty(probes, KEEP[0])
    if agree is None:
        return splits
    forget = probes.splits["forget"]
    old = dict(zip(probes.cluster[forget.rows].tolist(), forget.answer.tolist(), strict=True))
    chosen = []
    for split in splits:
        theirs = np.array([old.get(subject, -1) for subject in probes.cluster[split.rows].tolist()])
        kept = (theirs == split.answer) == agree
        chosen.append(replace(split, rows=split.rows[kept], answer=split.answer[kept]))
    found = [split for split in chosen if len(split.rows)]
    return found or f"no partner {'holds the same object as' if agree else 'differs from'} its requested fact"


def _spilled(evaluation: Evaluation) -> list[Split] | str:
    return splits_of(evaluation.probes, SPILL) or why_empty(evaluation.probes, SPILL)


def _value(evaluation: Evaluation, splits: list[Split] | str, direction: Direction) -> MetricValue:
    if isinstance(splits, str):
        return skipped(UNIT, direction, splits)
    return valued(evaluation, splits, correct, UNIT, direction, proportion=True)


def _change(evaluation: Evaluation) -> MetricValue:
    splits = _spilled(evaluation)
    if isinstance(splits, str):
        return skipped(UNIT, "lower", splits)
    (base,) = evaluation.predictions["base"]

    def score(predictions: Predictions, rows: Ids, answer: Ids) -> Floats:
        return correct(predictions, rows, answer) - correct(base, rows, answer)

    return valued(evaluation, splits, score, UNIT, "lower", roles=("edited", "gold"))
