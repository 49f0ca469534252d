"""Whether an edited fact can be used: by another name, from the other end, one hop further.

Yao et al. 2023 (Editing Large Language Models, arXiv 2305.13172), with their reliability, generality and locality
beside it. A generated world names each subject once, and its sentences end with the object, so that neither another
name nor the reverse can be asked; one hop can in worlds with nested objects. Of the user's files all that follows is
one hop here, whatever kind they call it: probes know the kinds apart, and not their names. Greedy answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from unlearn_cli.component import component
from unlearn_cli.evaluation import Evaluation, MetricValue, Role
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.edit_locality import agreement
from unlearn_cli.metrics.probing import Score, correct, splits_of, why_empty
from unlearn_cli.metrics.readings import skipped
from unlearn_cli.metrics.ripple import CLOSURE
from unlearn_cli.metrics.targets import NO_TARGET, Targets
from unlearn_cli.metrics.valuing import valued

NAME, UNIT = "portability", "share"
ASKED = {"one_hop": CLOSURE, "reliability": "edited", "generality": "edited_para"}
ABSENT = {
    "alias": "generated subjects have one name; what files ask by another name counts in one_hop",
    "reverse": "sentences of a world end with the object, so that no prompt asks for the subject",
}


@component
class Portability(Metric):
    """Shares of 0 to 1, ideal 1.

    one_hop: facts that follow from edited ones, answered with the derived value. reliability, generality: the new
    object in the phrasings of the edit, in others. locality: answers equal to the base's on unseen facts that must not
    change.
    """

    VERSION: ClassVar[int] = 1
    needs: ClassVar[frozenset[Role]] = frozenset({"base", "edited"})

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`portability/<one_hop|alias|reverse|reliability|generality|locality>`."""
        values = {f"{NAME}/{name}": skipped(UNIT, "higher", why) for name, why in ABSENT.items()}
        values |= {f"{NAME}/{name}": _value(evaluation, split, correct) for name, split in ASKED.items()}
        return values | {f"{NAME}/locality": _value(evaluation, "retain/unseen", agreement(evaluation))}


def _value(evaluation: Evaluation, name: str, score: Score) -> MetricValue:
    splits = splits_of(evaluation.probes, name)
    if not Targets.of(evaluation.probes).changed:
        return skipped(UNIT, "higher", NO_TARGET)
    if not splits:
        return skipped(UNIT, "higher", why_empty(evaluation.probes, name))
    return valued(evaluation, splits, score, UNIT, "higher", proportion=True)
