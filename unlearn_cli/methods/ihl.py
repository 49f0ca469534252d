"""IHL: the inverted hinge loss of LoKU, which hands an answer's mass to the next likely token.

Cha et al. 2025 (ICLR, arXiv 2408.06621): L = mean_t 1 + p_t(y_t) - max_{v != y_t} p_t(v) on probabilities, within
[0, 2] and 1 where the answer ties with the runner-up. Bounded, unlike GA; where p is spread over many tokens its
gradient fades. The result is sharp and wrong rather than unsure.
LoKU is this loss on LoRA adapters that start from the weights the forget set needs most: `method.adapter.init=fila`.
Published: `method=ihl method.adapter.rank=32 method.adapter.alpha=64 method.adapter.init=fila
method.lr=2e-4`, retain weight 1, 5 epochs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unlearn_cli.component import component
from unlearn_cli.methods.loss import AnswerBatch, LossMethod

if TYPE_CHECKING:
    from torch import Tensor


@component
class IHL(LossMethod):
    """The inverted hinge loss."""

    def forget_loss(self, batch: AnswerBatch) -> Tensor:
        """Mean of 1 + p(y) - the largest p of another token."""
        others = batch.all_logps.scatter(-1, batch.labels[..., None], float("-inf")).amax(-1)
        return batch.token_mean(1 + batch.logps.exp() - others.exp())
