"""UNDIAL: distil the model into itself with the old object's logit lowered.

Dong et al. 2024 (arXiv 2402.10052): at each answer token L = CE(q, p), q = softmax(z_ref - beta onehot(y)), z_ref the
logits of the model handed to the edit. The target never moves, so training cannot diverge; the optimum is p = q. With
beta = 0 the gradient vanishes at the start; as beta grows the target tends to the base's own distribution without y.
A beta below the margin by which the base knows its facts leaves them first. The paper applies it to chosen tokens
(entities): here these are the answers. Published: beta 10, LoRA of rank 8, lr 1e-4, 10 epochs, no retain term.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from unlearn_cli.component import NonNegative, component
from unlearn_cli.methods.loss import AnswerBatch, LossMethod

if TYPE_CHECKING:
    from torch import Tensor


@component
class UNDIAL(LossMethod):
    """Self-distillation with adjusted logits."""

    reads_reference: ClassVar[Literal["none", "logps", "logits"]] = "logits"

    beta: NonNegative = 10.0

    def forget_loss(self, batch: AnswerBatch) -> Tensor:
        """Cross-entropy from the adjusted base, mean over answer tokens."""
        if batch.reference_logits is None:
            raise ValueError("undial reads reference logits")
        from torch import full_like

        reference = batch.reference_logits
        lowered = full_like(reference[..., :1], -self.beta)
        target = reference.scatter_add(-1, batch.labels[..., None], lowered).softmax(-1)
        return -batch.token_mean((target * batch.all_logps).sum(-1))
