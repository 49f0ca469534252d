"""Whether an edited fact can be used: by another name, from the other end, one hop further.

Yao et al. 2023 (Editing Large Language Models, arXiv 2305.13172), with their reliability, generality and locality
beside it. A generated world names each subject once, and its sentences end with the object, so that neither another
name nor the reverse can be asked; one hop can in worlds with nested objects. Of the user's files what follows is told
apart by what EasyEdit and KnowEdit (Zhang et al. 2024, arXiv 2401.01286) call it. Greedy answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np

from unlearn_cli.component import component
from unlearn_cli.evaluation import Evaluation, Ids, MetricValue, ProbeSet, Role, Split
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.edit_locality import agreement
from unlearn_cli.metrics.probing import Score, correct, splits_of, why_empty
from unlearn_cli.metrics.readings import skipped
from unlearn_cli.metrics.ripple import CLOSURE
from unlearn_cli.metrics.targets import NO_TARGET, Targets
from unlearn_cli.metrics.valuing import valued

NAME, UNIT = "portability", "share"
ASKED = {"reliability": "edited", "generality": "edited_para"}
CALLED = {  # in the user's files; whatever has another name is one hop
    "alias": ("Subject_Aliasing", "subject_aliasing", "subject_replace"),
    "reverse": ("Logical_Generalization", "logical_generalization", "inverse_relation", "reversed_relation"),
}
ABSENT = {
    "alias": "nothing asks by another name of the subject: a generated one has none, files call it Subject_Aliasing",
    "reverse": "nothing asks the other way round: generated sentences end with the object, files call it"
    " Logical_Generalization",
    "one_hop": "all that follows is asked by another name or the other way round",
}


@component
class Portability(Metric):
    """Shares of 0 to 1, ideal 1.

    one_hop, alias, reverse: facts that follow from edited ones, answered with the derived value. reliability,
    generality: the new object in the phrasings of the edit, in others. locality: answers equal to the base's on unseen
    facts that must not change.
    """

    VERSION: ClassVar[int] = 2
    needs: ClassVar[frozenset[Role]] = frozenset({"base", "edited"})

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`portability/<one_hop|alias|reverse|reliability|generality|locality>`."""
        probes = evaluation.probes
        values = {
            f"{NAME}/{name}": _value(evaluation, _following(probes, name), correct, _why_none(probes, name))
            for name in ("one_hop", *CALLED)
        }
        for name, split in ASKED.items():
            values[f"{NAME}/{name}"] = _value(evaluation, splits_of(probes, split), correct, why_empty(probes, split))
        kept, why = splits_of(probes, "retain/unseen"), why_empty(probes, "retain/unseen")
        return values | {f"{NAME}/locality": _value(evaluation, kept, agreement(evaluation), why)}


def _value(evaluation: Evaluation, splits: list[Split], score: Score, why: str) -> MetricValue:
    if not Targets.of(evaluation.probes).changed:
        return skipped(UNIT, "higher", NO_TARGET)
    if not splits:
        return skipped(UNIT, "higher", why)
    return valued(evaluation, splits, score, UNIT, "higher", proportion=True)


def _following(probes: ProbeSet, name: str) -> list[Split]:
    """The part of what follows that counts as this."""
    every = {kind: _rows(probes, names) for kind, names in CALLED.items()}
    elsewhere = np.concatenate(list(every.values()))
    found = []
    for split in splits_of(probes, CLOSURE):
        own = ~np.isin(split.rows, elsewhere) if name == "one_hop" else np.isin(split.rows, every[name])
        found.append(replace(split, rows=split.rows[own], answer=split.answer[own]))
    return [split for split in found if len(split.rows)]


def _why_none(probes: ProbeSet, name: str) -> str:
    return why_empty(probes, CLOSURE) if name == "one_hop" and not splits_of(probes, CLOSURE) else ABSENT[name]


def _rows(probes: ProbeSet, names: tuple[str, ...]) -> Ids:
    """Probes of what follows that goes by one of these names."""
    keys = [f"{CLOSURE}/{name}" for name in names]
    return np.concatenate([np.empty(0, dtype=np.int64), *(probes.splits[k].rows for k in keys if k in probes.splits)])
