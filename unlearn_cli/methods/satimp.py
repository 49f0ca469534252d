"""SatImp: gradient ascent weighted by how far a token is forgotten and by how uncertain it is.

Yang et al. 2025 (arXiv 2505.11953): L = mean_t sg(w_t) log p_t with w = p^beta1 (1 - p)^beta2, saturation times
importance, and a retain NLL of a tenth of its weight. beta2 = 0 is WGA, both 0 GA; w is largest at
p = beta1 / (beta1 + beta2). With beta2 > 0 the weight of a fully memorised token (p = 1), and with it the whole
gradient, is 0: facts that training has saturated are not forgotten, which is why beta2 is small by default.
Published: beta1 5, beta2 1, forget : retain 1 : 0.1, 5 epochs; the port in open-unlearning has the two weights swapped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unlearn_cli.component import NonNegative, component
from unlearn_cli.methods.loss import AnswerBatch, LossMethod

if TYPE_CHECKING:
    from torch import Tensor


@component
class SatImp(LossMethod):
    """Saturation- and importance-weighted gradient ascent."""

    beta1: NonNegative = 5.0
    beta2: NonNegative = 0.1

    def forget_loss(self, batch: AnswerBatch) -> Tensor:
        """mean p^beta1 (1 - p)^beta2 log p, the weight a constant."""
        p = batch.logps.detach().exp()
        return batch.token_mean(p**self.beta1 * (1 - p) ** self.beta2 * batch.logps)
