"""Share of a whole sentence's tokens that greedy prediction gets right, teacher-forced.

Jang et al. 2023 (arXiv 2210.01504, equation 3): the L - 1 predictions of tokens 2..L, each from all tokens before it.
"""

from __future__ import annotations

from typing import ClassVar

from unlearn_cli.component import component
from unlearn_cli.evaluation import Arrays, Floats
from unlearn_cli.metrics.exact_memorization import ExactMemorization
from unlearn_cli.metrics.token_metric import TokenMetric


@component
class MemorizationAccuracy(TokenMetric):
    """MA = (1 / (L - 1)) sum_t 1[argmax p(. | x_<t) = x_t] over prompt and answer, averaged over sentences: 0 to 1.

    Its authors call a text forgotten once MA is below its mean on unseen text, here `/holdout`. It says little of
    models that were trained on the answers alone (`train.loss_on=answer`): they never learned the prompts.
    """

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "memorization_accuracy"

    def items(self, scores: Arrays) -> Floats:
        """Share of right tokens of each sentence."""
        return ExactMemorization(scope="full").items(scores)
