"""SCRUB: turn by turn move away from the base on the forget set and back to it on the retain set.

Kurmanji et al. 2023 (arXiv 2302.09880): max-steps maximise T^2 KL_T(base || model) on D_f, min-steps minimise
alpha T^2 KL_T(base || model) + gamma NLL on D_r, KL_T at temperature T; the last epochs have min-steps alone. There a
max-step and a min-step are passes over D_f and D_r; here they are `max_steps` and `min_steps` optimiser steps, in
`rounds` rounds, and what is left of `steps` are min-steps. Each round begins with its min-steps: in the base the KL
is 0 and so is its gradient, so that a max-step taken first would follow rounding errors.
`rewind` (SCRUB+R): the model kept is that one of the ends of min-steps, from the first max-step on, whose accuracy on
the requested facts is nearest to a reference. Published: the accuracy on a validation set of the forget set's
distribution; no method here may see facts that were never trained, so it is the accuracy of guessing with the
frequencies that objects have among the retain facts of the same relation.
Published (vision): alpha 0.5, gamma 1, T 2 to 8, Adam lr 5e-4, weight decay 0.1, 10 epochs, max-steps in the first 2
or 3, the learning rate a tenth in the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import model_validator

from unlearn_cli.component import Count, Natural, NonNegative, Positive, component
from unlearn_cli.methods.base import EditData
from unlearn_cli.methods.loss import AnswerBatch, LossMethod
from unlearn_cli.methods.rewind import Rewind, guessed
from unlearn_cli.methods.temperature import kl_at

if TYPE_CHECKING:
    from torch import Tensor


@component
class SCRUB(LossMethod):
    """Alternating distillation away from and towards the base."""

    reads_reference: ClassVar[Literal["none", "logps", "logits"]] = "logits"

    retain_loss: Literal["none", "nll", "kl"] = "kl"
    alpha: NonNegative = 0.5
    gamma: NonNegative = 1.0
    temperature: Positive = 4.0
    rounds: Natural = 8
    min_steps: Count = 5
    max_steps: Count = 2
    rewind: bool = False

    @model_validator(mode="after")
    def _both_turns(self) -> SCRUB:
        if self.retain_loss != "kl":
            raise ValueError(f"retain_loss = {self.retain_loss}: scrub has its own, set by alpha and gamma; leave kl")
        if not (self.forget_weight and self.retain_weight and self.alpha + self.gamma):
            raise ValueError("forget_weight, retain_weight, alpha + gamma: scrub takes turns, so none can be 0")
        if self.rounds * (self.min_steps + self.max_steps) > self.steps:
            each = self.min_steps + self.max_steps
            raise ValueError(f"rounds = {self.rounds}: of {each} steps each do not fit in steps = {self.steps}")
        return self

    def weights(self, step: int) -> tuple[float, float]:
        """Min-steps, then max-steps, in each round; min-steps after the last."""
        turn = self.min_steps + self.max_steps
        if step < self.rounds * turn and step % turn >= self.min_steps:
            return self.forget_weight, 0.0
        return 0.0, self.retain_weight

    def rewind_to(self, data: EditData) -> Rewind | None:
        """The model that knows the requested facts as well as one who guesses."""
        if not self.rewind or data.forget is None or data.retain is None:
            return None
        turn = self.min_steps + self.max_steps
        accuracy = guessed(data.forget, data.retain)
        return Rewind(accuracy, lambda step: step >= turn and (step + 1) % turn == self.min_steps % turn)

    def forget_loss(self, batch: AnswerBatch) -> Tensor:
        """-T^2 KL_T(base || model)."""
        return -self._distance(batch)

    def retain_objective(self, batch: AnswerBatch) -> Tensor:
        """alpha T^2 KL_T(base || model) + gamma NLL."""
        return self.alpha * self._distance(batch) + self.gamma * batch.nll

    def _distance(self, batch: AnswerBatch) -> Tensor:
        return self.temperature**2 * kl_at(self.temperature, batch.reference_logits, batch)
