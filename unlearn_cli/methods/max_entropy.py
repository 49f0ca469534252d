"""Maximum entropy: make the predictions on the forget set flat over the vocabulary, or over the relation's objects.

The forget loss of tamper-resistant training (Tamirisa et al. 2024, arXiv 2408.00761), and by its sign the retain loss
of ULD (Ji et al. 2024, arXiv 2406.08607), averaged over answer tokens:
`neg_entropy` -H(p), at least -ln V; `kl_p_uniform` KL(p || u) = ln V - H(p), the same gradient from 0;
`kl_uniform_p` KL(u || p) = -ln V - mean_v log p(v), which weighs the most improbable tokens most.
Over the vocabulary, as published, mass goes to tokens that are no object too. `over=objects` renormalises p over the
tokens with which an object of the relation can go on, for otherwise the loss would push mass out of them, and u gives
each object the same mass: tokens that several objects share have that of all of them, and V is their number.
Gold models are confidently wrong, not uniform.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from unlearn_cli.component import component
from unlearn_cli.methods.loss import AnswerBatch, LossMethod

if TYPE_CHECKING:
    from torch import Tensor


@component
class MaxEntropy(LossMethod):
    """Flat predictions; `form` says how flatness is measured."""

    form: Literal["neg_entropy", "kl_uniform_p", "kl_p_uniform"] = "neg_entropy"
    over: Literal["vocabulary", "objects"] = "vocabulary"

    @property
    def reads_continuations(self) -> bool:
        """Only to be flat over them."""
        return self.over == "objects"

    def forget_loss(self, batch: AnswerBatch) -> Tensor:
        """The distance of the predictions to uniform, in nats."""
        if self.over == "objects":
            return self._over_objects(batch)
        logps, most = batch.all_logps, math.log(batch.logits.shape[-1])
        if self.form == "kl_uniform_p":
            return -most - batch.token_mean(logps)
        negative = batch.token_mean((logps.exp() * logps).sum(-1))
        return negative if self.form == "neg_entropy" else negative + most

    def _over_objects(self, batch: AnswerBatch) -> Tensor:
        """The same of the mass of each object, that of a token being shared evenly by those that go on with it."""
        if batch.continuations is None:
            raise ValueError("max_entropy over objects reads continuations")
        counts = batch.continuations.to(batch.all_logps)
        possible, objects = counts > 0, counts.sum(-1)
        logps = batch.all_logps.masked_fill(~possible, -math.inf).log_softmax(-1).masked_fill(~possible, 0.0)
        each, most = logps - counts.clamp_min(1).log(), objects.log()
        if self.form == "kl_uniform_p":
            return batch.token_mean(-most - (counts / objects[..., None] * each).sum(-1))
        negative = (logps.exp() * each).masked_fill(~possible, 0.0).sum(-1)
        return batch.token_mean(negative if self.form == "neg_entropy" else negative + most)
