"""Mean reciprocal rank of the answer among the relation's objects.

PISTOL, Qiu et al. 2024 (arXiv 2406.16810), ranks tokens among the vocabulary along the model's own greedy path; here
whole objects are ranked among the relation's, so that a path gone astray shifts no rank.
"""

from __future__ import annotations

from typing import ClassVar

from unlearn_cli.component import component
from unlearn_cli.evaluation import Floats, Ids, Predictions
from unlearn_cli.metrics.answer_rank import AnswerRank
from unlearn_cli.metrics.probe import ProbeMetric


@component
class ReciprocalRank(ProbeMetric):
    """1 / rank, 1/O to 1, with mid-ranks for ties: a uniform model has 2 / (O + 1), not 1. Mean over items."""

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "reciprocal_rank"
    unit: ClassVar[str] = "reciprocal"

    def items(self, predictions: Predictions, rows: Ids, answer: Ids) -> Floats:
        """Of each probe."""
        return 1 / AnswerRank().items(predictions, rows, answer)
