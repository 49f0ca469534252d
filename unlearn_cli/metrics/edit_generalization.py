"""Whether the new object is preferred to the old one in phrasings that the edit was not written in.

ROME, Meng et al. 2022 (arXiv 2202.05262), section 3.4: PS and PM, on phrasings that the method is not shown (trained or
held out). No random text is put in front of them: sentences of a world begin where they begin.
Trap: a mean over phrasings hides one that was missed (`phrasing_generalization/worst_template`), and where the base
itself does not understand a phrasing nothing can be preferred for a reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from unlearn_cli.component import component
from unlearn_cli.evaluation import Evaluation, MetricValue, Role
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.edit_efficacy import of_split


@component
class EditGeneralization(Metric):
    """Success = share of other phrasings with P(new) > P(old), 0 to 1; magnitude = mean P(new) - P(old), -1 to 1."""

    VERSION: ClassVar[int] = 2
    needs: ClassVar[frozenset[Role]] = frozenset({"edited"})

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`edit_generalization/<success|magnitude>`."""
        return of_split(evaluation, "edit_generalization", "edited_para")
