"""WGA: gradient ascent with every token weighted by its own probability.

Wang et al. 2025 (arXiv 2502.19301): L = mean_t sg(p_t^beta) log p_t over all answer tokens, sg = no gradient. GA's
gradient by the logits, onehot - p, grows as a token is forgotten; with the weight it vanishes. beta = 0 is GA.
Published: beta 1, both weights 1, lr 1e-5, 5 epochs. The same paper's token-level NPO is `token_npo`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unlearn_cli.component import NonNegative, component
from unlearn_cli.methods.loss import AnswerBatch, LossMethod

if TYPE_CHECKING:
    from torch import Tensor


@component
class WGA(LossMethod):
    """Weighted gradient ascent."""

    beta: NonNegative = 2.0

    def forget_loss(self, batch: AnswerBatch) -> Tensor:
        """mean p^beta log p, the weight a constant."""
        weight = (self.beta * batch.logps.detach()).exp()
        return batch.token_mean(weight * batch.logps)
