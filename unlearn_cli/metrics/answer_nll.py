"""Surprise at the answer: what a mean of probabilities cannot tell apart near 0.

Maini et al. 2024 (TOFU, arXiv 2401.06121) use the loss per token; here it is that of the whole answer.
Trap: the mean of probabilities is not exp(-mean of this); a model driven to 1e-8 and one at 1e-3 have both "forgotten".
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from unlearn_cli.component import component
from unlearn_cli.evaluation import Floats, Ids, Predictions
from unlearn_cli.metrics.probe import Knowing, ProbeMetric


@component
class AnswerNll(ProbeMetric):
    """-log P(answer | prompt), nats, 0 or more: 0 is certain, ln O uniform over the objects. Mean over items."""

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "answer_nll"
    unit: ClassVar[str] = "nats"
    knowing: ClassVar[Knowing] = "flipped"

    def items(self, predictions: Predictions, rows: Ids, answer: Ids) -> Floats:
        """Sum over the answer's tokens."""
        return -predictions.answer_logps(rows, answer).astype(np.float64)
