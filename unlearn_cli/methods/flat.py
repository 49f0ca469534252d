"""FLAT: learn the refusal and unlearn the old object by the variational form of an f-divergence.

Wang et al. 2024 (arXiv 2410.11143): L = -g(P(x, y_e)) + f*(g(P(x, y_f))), P(x, y) the mean of the answer tokens'
probabilities, y_e a template answer (here the refusal), y_f the old object, f* the conjugate of the divergence and g
its output activation. Bounded, without reference model and without retain data in the paper; a retain term is added
here as everywhere and `retain_loss=none` takes it away.

Departures from the authors' code: its reverse KL, Hellinger and Neyman branches have the sign of an exponent reversed,
which would learn y_f; here they follow the definitions. It averages P over all positions, masked ones as 0; here over
the answer. It inserts the batch's averages of P; here the loss is taken of each example. Published: KL, TV, Jensen-
Shannon or Pearson; lr 1e-5 (TOFU, 7B), 5 epochs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from unlearn_cli.component import component
from unlearn_cli.methods.alternatives import refusals
from unlearn_cli.methods.loss import AnswerBatch, Draw
from unlearn_cli.methods.refusing import Refusing
from unlearn_cli.worlds.vocabulary import Ids

if TYPE_CHECKING:
    from torch import Tensor

Divergence = Literal["kl", "tv", "jensen_shannon", "pearson", "reverse_kl", "hellinger", "neyman"]
Function = Callable[["Tensor"], "Tensor"]

# Output activation g(v) and conjugate f*(u) of each divergence.
FORMS: dict[Divergence, tuple[Function, Function]] = {
    "kl": (lambda v: v, lambda u: (u - 1).exp()),
    "tv": (lambda v: v.tanh() / 2, lambda u: u),
    "jensen_shannon": (lambda v: math.log(2) - (-v).exp().log1p(), lambda u: -(2 - u.exp()).log()),
    "pearson": (lambda v: v, lambda u: u**2 / 4 + u),
    "reverse_kl": (lambda v: -(-v).exp(), lambda u: -1 - (-u).log()),
    "hellinger": (lambda v: 1 - (-v).exp(), lambda u: u / (1 - u)),
    "neyman": (lambda v: 1 - (-v).exp(), lambda u: 2 - 2 * (1 - u).sqrt()),
}


@component
class FLAT(Refusing):
    """Forget-data-only loss adjustment."""

    divergence: Divergence = "kl"

    def alternatives(self, draw: Draw) -> Ids:
        """The refusal."""
        return refusals(draw)

    def forget_loss(self, batch: AnswerBatch) -> Tensor:
        """Mean over examples of f*(g(P_old)) - g(P_refusal)."""
        if batch.alternative is None:
            raise ValueError("flat learns alternative answers")
        activation, conjugate = FORMS[self.divergence]
        learnt, unlearnt = activation(_probability(batch.alternative)), activation(_probability(batch))
        return (conjugate(unlearnt) - learnt).mean()


def _probability(batch: AnswerBatch) -> Tensor:
    """P(x, y) [B]: the mean of the answer tokens' probabilities."""
    return batch.sequence_mean(batch.logps.exp())
