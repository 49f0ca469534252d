"""SimNPO: NPO without a reference, on length-normalised log-probabilities.

Fan et al. 2024 (arXiv 2410.07163), eq. 4: L = (2 / beta) E softplus(beta s + gamma), s = log pi(y|x) / |y|. Their code
writes -logsigmoid(beta (NLL/|y| - g)), so gamma here, the paper's, is beta * g. beta -> 0 with gamma = 0 is
length-normalised GA. Authors' settings for TOFU: beta 2.5, gamma 0, forget weight 0.1375.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unlearn_cli.component import NonNegative, Positive, component
from unlearn_cli.methods.loss import AnswerBatch, LossMethod

if TYPE_CHECKING:
    from torch import Tensor


@component
class SimNPO(LossMethod):
    """Simple negative preference optimisation."""

    beta: Positive = 2.5
    gamma: NonNegative = 0.0

    def forget_loss(self, batch: AnswerBatch) -> Tensor:
        """(2 / beta) mean softplus(beta s + gamma)."""
        from torch.nn.functional import softplus

        return 2 / self.beta * softplus(self.beta * batch.sequence_mean(batch.logps) + self.gamma).mean()
