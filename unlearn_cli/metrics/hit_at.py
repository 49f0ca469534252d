"""Whether the answer is among the k most probable objects.

PISTOL, Qiu et al. 2024 (arXiv 2406.16810), with k = 100 tokens of the vocabulary; a relation of a world has far fewer
objects, so that k is small here. k = 1 is `candidate_accuracy`.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from unlearn_cli.component import Count, component
from unlearn_cli.evaluation import Floats, Ids, Predictions
from unlearn_cli.metrics.probe import ProbeMetric


@component
class HitAt(ProbeMetric):
    """Share of probes whose answer is among the `k` most probable objects, 0 to 1; chance is k/O.

    Of an answer tied with others that share the last places, the share of places counts: a uniform model has k/O.
    """

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "hit_at"
    unit: ClassVar[str] = "share"

    k: Count = 5

    def items(self, predictions: Predictions, rows: Ids, answer: Ids) -> Floats:
        """In [0, 1]."""
        logps = predictions.candidate_logps[rows]
        own = predictions.answer_logps(rows, answer)[:, None]
        above = (logps > own).sum(axis=1)
        ties = (logps == own).sum(axis=1) + (answer < 0)
        share = np.clip((self.k - above) / np.maximum(ties, 1), 0.0, 1.0)
        return np.where(np.isnan(logps).any(axis=1), np.nan, share)
