"""Sparsity for unlearning: prune first and keep what is pruned at zero, or push weights to zero while unlearning.

Jia et al. 2023 (arXiv 2304.04934). `sparsity` > 0, "prune first, then unlearn": in every matrix of a block the
smallest magnitudes become 0 and stay there, and a smaller model is unlearnt. `l1` > 0, "l1-sparse": the loss gains
gamma_t ||theta||_1 with gamma_t = gamma (1 - t / (T - T_0)), 0 in the last T_0 steps. The unlearner beneath is
GradDiff; with `forget_weight=0` it is fine-tuning on retain facts, with which the paper pairs l1.

Departures: magnitudes are ranked within each matrix; gamma multiplies the mean |theta|, not the sum, and neither
pruning nor l1 touches embeddings, norms or biases, which harms language models.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic import model_validator

from unlearn_cli.component import Fraction, Natural, NonNegative, component
from unlearn_cli.methods.base import EditContext, EditData, EditReport
from unlearn_cli.methods.graddiff import GradDiff
from unlearn_cli.methods.scope import in_scope

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedModel


@component
class Prune(GradDiff):
    """GradDiff on a pruned model, or under an l1 penalty; `l1` is gamma, `steps_without_l1` T_0."""

    sparsity: Fraction = 0.0
    l1: NonNegative = 0.0
    steps_without_l1: Natural = 0

    @model_validator(mode="after")
    def _consistent(self) -> Prune:
        if self.sparsity and self.adapter.rank:
            raise ValueError(
                f"adapter.rank = {self.adapter.rank}: merged adapters would fill what sparsity empties, so 0"
            )
        if self.l1 and self.adapter.rank:
            raise ValueError(f"adapter.rank = {self.adapter.rank}: l1 is a penalty on weights that are trained, so 0")
        if self.l1 and self.steps_without_l1 >= self.steps:
            raise ValueError(f"steps_without_l1 = {self.steps_without_l1}: l1 needs some of the {self.steps} steps")
        return self

    def penalty(self, model: Module, seed: int) -> Callable[[int], Tensor] | None:
        """gamma_t times the mean |theta| of the blocks' matrices."""
        if self.l1 == 0:
            return None
        import torch

        matrices = _matrices(model)
        size = sum(matrix.numel() for matrix in matrices)

        def mean_magnitude(step: int) -> Tensor:
            magnitude = torch.stack([matrix.abs().sum() for matrix in matrices]).sum() / size
            return self.l1_at(step) * magnitude

        return mean_magnitude

    def l1_at(self, step: int) -> float:
        """gamma_t at a step, counted from 0."""
        return self.l1 * max(0.0, 1 - step / (self.steps - self.steps_without_l1))

    def edit(self, model: PreTrainedModel, data: EditData, context: EditContext) -> EditReport:
        """Prune, then unlearn; what is pruned gets no gradient, and AdamW leaves a zero without gradient alone."""
        if self.sparsity == 0:
            return super().edit(model, data, context)
        import torch

        hooks = []
        for matrix in _matrices(model):
            kept = largest(matrix.detach(), self.sparsity)
            with torch.no_grad():
                matrix.mul_(kept)
            hooks.append(matrix.register_hook(lambda gradient, kept=kept: gradient * kept))
        report = super().edit(model, data, context)
        for hook in hooks:
            hook.remove()
        return report


def largest(matrix: Tensor, sparsity: float) -> Tensor:
    """Which entries stay: all but the round(sparsity * entries) of the smallest magnitude."""
    import torch

    kept = torch.ones(matrix.numel(), dtype=torch.bool, device=matrix.device)
    order = matrix.abs().flatten().argsort(stable=True)
    kept[order[: round(sparsity * matrix.numel())]] = False
    return kept.view_as(matrix)


def _matrices(model: Module) -> list[Tensor]:
    """The weights that may become sparse."""
    return [weight for name, weight in model.named_parameters() if weight.ndim == 2 and in_scope(name, "blocks")]
