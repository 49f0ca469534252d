"""Share of the tokens that greedy prediction gets right, teacher-forced.

Tirumala et al. 2022 (arXiv 2205.10770). OpenUnlearning leaves out the last label, its end of text; here the end
counts with `scope=full` and is no part of an answer.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from unlearn_cli.component import component
from unlearn_cli.evaluation import Arrays, Floats
from unlearn_cli.metrics.token_metric import Scope, TokenMetric, in_scope


@component
class ExactMemorization(TokenMetric):
    """EM_i = (1 / T) sum_t 1[argmax p(. | x, a_<t) = a_t], averaged over sentences: 0 to 1.

    With one-token objects the answer's is `fact_accuracy`. Text that training put no loss on (`train.loss_on=answer`)
    is not memorised by the base either.
    """

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "exact_memorization"

    scope: Scope = "answer"

    def items(self, scores: Arrays) -> Floats:
        """Share of right tokens of each sentence."""
        counted = in_scope(scores, self.scope)
        share: Floats = (counted * scores["hit"]).sum(1) / np.maximum(counted.sum(1), 1)
        return share
