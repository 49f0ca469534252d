"""Whether the new object is preferred to the old one where the edit was written.

ROME, Meng et al. 2022 (arXiv 2202.05262), section 3.4: ES and EM. Where answers differ in their number of tokens, P is
the geometric mean over tokens, as in ROME's code; objects of a generated world are equally long, and P is of the whole
object. ROME prints both times 100. Trap: ES is 1 as soon as the new object passes the old one, though a third may be
the answer: read `fact_accuracy/edited` beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from unlearn_cli.component import component
from unlearn_cli.evaluation import Evaluation, MetricValue, Role
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.probing import splits_of, why_empty
from unlearn_cli.metrics.readings import skipped
from unlearn_cli.metrics.targets import Targets, margin, prefers
from unlearn_cli.metrics.valuing import valued

KINDS = {"success": prefers, "magnitude": margin}
UNITS = {"success": "share", "magnitude": "probability"}


def of_split(evaluation: Evaluation, name: str, split: str) -> dict[str, MetricValue]:
    """`<name>/success` and `<name>/magnitude` on one split of requested facts."""
    probes, values = evaluation.probes, {}
    targets, splits = Targets.of(probes), splits_of(probes, split)
    why = targets.why_not if splits else why_empty(probes, split)
    for kind, compare in KINDS.items():
        key, unit = f"{name}/{kind}", UNITS[kind]
        if why:
            values[key] = skipped(unit, "higher", why)
            continue
        score = targets.score(probes, compare)
        values[key] = valued(evaluation, splits, score, unit, "higher", proportion=kind == "success")
    return values


@component
class EditEfficacy(Metric):
    """Success = share of prompts with P(new) > P(old), ties failing, 0 to 1; magnitude = mean P(new) - P(old), -1 to 1.

    Ideal 1. The base, which knows the old object, has 0 and nearly -1.
    """

    VERSION: ClassVar[int] = 2
    needs: ClassVar[frozenset[Role]] = frozenset({"edited"})

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`edit_efficacy/<success|magnitude>`."""
        return of_split(evaluation, "edit_efficacy", "edited")
