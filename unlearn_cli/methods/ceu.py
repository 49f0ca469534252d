"""CE-U: cross-entropy to the model's own prediction with the answer taken out.

Yang 2025 (arXiv 2503.01224): for each answer token the target is q = softmax(sg(z)), z_y = -inf, and the loss
CE(q, softmax(z)). Its gradient by the logits is p - q: bounded, and 0 once p_y = 0. The authors leave the first token
of an answer alone (`skip_first` 1), which for answers of one token would leave nothing; here the default is 0.
Tokens to skip are counted among the predicted ones. Published: no retain term, lr 1e-5, 10 epochs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from unlearn_cli.component import Natural, component
from unlearn_cli.errors import UnlearnError
from unlearn_cli.methods.loss import AnswerBatch, LossMethod

if TYPE_CHECKING:
    from torch import Tensor


@component
class CEU(LossMethod):
    """Cross-entropy unlearning."""

    skip_first: Natural = 0

    def forget_loss(self, batch: AnswerBatch) -> Tensor:
        """Mean cross-entropy to the prediction without the answer."""
        tokens, skipped = batch.labels.shape[1], self.skip_first
        kept = batch.mask if batch.mask is None else batch.mask[:, skipped:]
        if tokens <= skipped or (kept is not None and not bool(kept.any())):
            raise UnlearnError(f"method.skip_first = {skipped}: leaves none of the answers' {tokens} tokens")
        others = batch.logits.detach().scatter(-1, batch.labels[..., None], float("-inf"))
        target = others.to(batch.all_logps.dtype).softmax(-1)
        distances = (target * batch.all_logps).sum(-1)[:, skipped:]
        return -replace(batch, mask=kept).token_mean(distances)
