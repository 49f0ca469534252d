"""How far the answer is ahead of, or behind, the best other object."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from unlearn_cli.component import component
from unlearn_cli.evaluation import Floats, Ids, Predictions
from unlearn_cli.metrics.probe import ProbeMetric


@component
class AnswerMargin(ProbeMetric):
    """log P(answer) - log P(most probable other object of the relation), nats, any sign. Mean over items.

    For objects of one token it is the logit margin among the objects. Above 0 the answer is preferred; a uniform model
    has 0. Not bounded: one object at 1e-9 outweighs many near 0, so read it beside `answer_rank`.
    """

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "answer_margin"
    unit: ClassVar[str] = "nats"

    def items(self, predictions: Predictions, rows: Ids, answer: Ids) -> Floats:
        """Of each probe."""
        others = predictions.candidate_logps[rows].astype(np.float64)
        objects = np.flatnonzero(answer >= 0)
        others[objects, answer[objects]] = -np.inf
        return predictions.answer_logps(rows, answer).astype(np.float64) - others.max(axis=1)
