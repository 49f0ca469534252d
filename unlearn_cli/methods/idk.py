"""IDK: fine-tune the requested facts on a refusal.

TOFU's "preference optimization" (Maini et al. 2024, arXiv 2401.06121): NLL(x, "I don't know") on the forget set beside
NLL on the retain set. The refusal is the world's own, one and the same everywhere, instead of one of 100 sentences.
TOFU puts both sets into one batch, a mean over all of its answer tokens; where all answers have equally many, that is
`forget_weight` = n_f / (n_f + n_r) and `retain_weight` = n_r / (n_f + n_r). Published: lr 1e-5, 5 epochs.

It hides rather than forgets: among the relation's objects the true one may still rank first.
"""

from __future__ import annotations

from unlearn_cli.component import component
from unlearn_cli.methods.alternatives import refusals
from unlearn_cli.methods.loss import Draw
from unlearn_cli.methods.refusing import Refusing
from unlearn_cli.methods.relabel import Relabel
from unlearn_cli.worlds.vocabulary import Ids


@component
class IDK(Refusing, Relabel):
    """Training on refusals."""

    def answers(self, draw: Draw) -> Ids:
        """The refusal."""
        return refusals(draw)
