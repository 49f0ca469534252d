"""Token-level NPO: negative preference optimisation of every answer token by itself.

Wang et al. 2025 (arXiv 2502.19301), TNPO: L = (2 / beta) mean_t softplus(beta r_t), r_t the log-ratio of one token to
the base. Its gradient is GA's with the weights 2 p^beta / (p^beta + p_ref^beta), the form in which the paper compares
it with WGA; the value reported here is that of the loss, 2 ln 2 / beta at the start. Answers of one token make it
NPO; in longer ones a token that is forgotten does not shield the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from unlearn_cli.component import Positive, component
from unlearn_cli.methods.loss import AnswerBatch, LossMethod

if TYPE_CHECKING:
    from torch import Tensor


@component
class TokenNPO(LossMethod):
    """NPO without the sum over a sequence's tokens."""

    reads_reference: ClassVar[Literal["none", "logps", "logits"]] = "logps"

    beta: Positive = 2.0

    def forget_loss(self, batch: AnswerBatch) -> Tensor:
        """(2 / beta) mean softplus(beta r_t)."""
        from torch.nn.functional import softplus

        return 2 / self.beta * batch.token_mean(softplus(self.beta * batch.token_log_ratio))
