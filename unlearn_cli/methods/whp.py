"""WHP, "Who's Harry Potter": distil predictions from which everything is taken that more training on the facts raises.

Eldan, Russinovich 2023 (arXiv 2310.02238): a model reinforced by training the base further on D_f; the generic
prediction v_generic = v_base - alpha relu(v_reinforced - v_base); then the base is trained towards it on D_f. Logits
are taken raw, as in MUSE's code (Shi et al. 2024, arXiv 2407.06460), which serves v_generic itself instead of
distilling it (whp_logits.py). The paper also replaces the names in the text by generic ones before it asks the base;
not done here: of the two devices only the reinforced model. The reinforced model is trained by the same loop, and its
tokens are counted in the edit's cost. Published: alpha 5, reinforcement of 3 epochs at lr 3e-6, 2 epochs at lr 1e-6,
labels argmax v_generic (`hard`), no retain term.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from unlearn_cli.component import Count, NonNegative, Positive, component
from unlearn_cli.methods.base import EditContext, EditData, EditReport
from unlearn_cli.methods.ft import FT
from unlearn_cli.methods.loss import AnswerBatch, LossMethod, kl

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedModel

    from unlearn_cli.worlds.base import WorldData

COST = "whp reinforcement"  # key of what the reinforced model took


@component
class Reinforcement:
    """How the reinforced model is trained on the requested facts."""

    steps: Count = 30
    lr: Positive = 3e-4


@component
class WHP(LossMethod):
    """Distillation from generic predictions."""

    reads_reference: ClassVar[Literal["none", "logps", "logits"]] = "logits"

    alpha: NonNegative = 5.0
    labels: Literal["hard", "soft"] = "soft"
    reinforce: Reinforcement = Field(default_factory=Reinforcement)

    def teachers(self, model: PreTrainedModel, data: EditData, context: EditContext) -> Mapping[str, Module]:
        """The reinforced model."""
        if data.forget is None:
            return {}
        quiet = replace(context.runtime, stage="reinforce", logger=None, curves=[])
        own = EditContext(quiet, context.seed)
        reinforced, context.memory[COST] = reinforce(model, data.forget, self.reinforce, own)
        return {"reinforced": reinforced}

    def forget_loss(self, batch: AnswerBatch) -> Tensor:
        """Cross-entropy from the likeliest generic token, or KL(generic || model)."""
        target = generic(batch.reference_logits, batch.teachers["reinforced"], self.alpha)
        if self.labels == "soft":
            return batch.token_mean(kl(target, batch.logits))
        return replace(batch, labels=target.argmax(-1)).nll

    def edit(self, model: PreTrainedModel, data: EditData, context: EditContext) -> EditReport:
        """Run the shared loop, and count the reinforced model's tokens too."""
        report = super().edit(model, data, context)
        before: EditReport | None = context.memory.pop(COST, None)
        if before is None:
            return report
        return replace(
            report,
            forward_tokens=report.forward_tokens + before.forward_tokens,
            backward_tokens=report.backward_tokens + before.backward_tokens,
        )


def reinforce(
    model: PreTrainedModel, forget: WorldData, how: Reinforcement, context: EditContext
) -> tuple[PreTrainedModel, EditReport]:
    """A copy of `model` trained further on the requested facts, and what that took."""
    reinforced = copy.deepcopy(model)
    learn = FT(steps=how.steps, lr=how.lr, retain_loss="none")
    return reinforced, learn.edit(reinforced, EditData(forget, None, None), context)


def generic(base: Tensor | None, reinforced: Tensor, alpha: float) -> Tensor:
    """v_base - alpha relu(v_reinforced - v_base)."""
    if base is None:
        raise ValueError("whp reads reference logits")
    return base - alpha * (reinforced - base).relu()
