"""WHP served: answer with predictions from which everything is taken that more training on the facts raises.

Eldan, Russinovich 2023 (arXiv 2310.02238) in the form of MUSE (Shi et al. 2024, arXiv 2407.06460): the generic
prediction v_base - alpha relu(v_reinforced - v_base) answers itself; whp.py distils it into the weights instead. MUSE's
code compares raw logits, so that a reinforced model whose logits drift by a constant takes off more or less.
`space=logps` compares log-probabilities; but a fact that the base is sure of then has nothing left to gain, and stays.
Nothing protects other facts: what reinforcement raises in them is taken off too. Published: alpha 1, 5 epochs at
lr 1e-5 (MUSE).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from unlearn_cli.component import NonNegative, component
from unlearn_cli.methods.base import EditContext, EditData, EditReport, Need
from unlearn_cli.methods.guarding import GuardMethod
from unlearn_cli.methods.whp import Reinforcement, reinforce

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from unlearn_cli.guards.base import Guard


@component
class WHPLogits(GuardMethod):
    """Generic predictions at inference time."""

    alpha: NonNegative = 3.0
    space: Literal["logits", "logps"] = "logits"
    reinforce: Reinforcement = Field(default_factory=lambda: Reinforcement(lr=1e-3))

    @property
    def needs(self) -> frozenset[Need]:
        """The requested facts alone."""
        return frozenset({"forget"})

    def guard(self, model: PreTrainedModel, data: EditData, context: EditContext) -> tuple[Guard, EditReport]:
        """Train the reinforced model."""
        from unlearn_cli.guards.whp import GenericPredictions

        assert data.forget is not None
        reinforced, report = reinforce(model, data.forget, self.reinforce, context)
        return GenericPredictions(reinforced, self.alpha, self.space), report
