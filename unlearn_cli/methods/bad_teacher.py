"""Bad teacher: on the forget set imitate a model that knows nothing, on the retain set the base.

Chundawat et al. 2022 (arXiv 2205.08096), also "blindspot unlearning": L = KL_T(teacher || model), the teacher an
untrained model of the same shape on requested facts and the base on retain facts, both at temperature T. Their code
divides by batch times classes (the element-wise mean of `kl_div`); here it is the sum over the vocabulary and the mean
over answer tokens. Their batches mix both sets; here each has a mean of its own, weighed by `forget_weight` and
`retain_weight`. An untrained language model is close to uniform over the vocabulary, special tokens included.
Published (vision): T 1, Adam lr 1e-4, 1 epoch, 30 % of the retain set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from unlearn_cli.component import Positive, component
from unlearn_cli.methods.base import EditContext, EditData
from unlearn_cli.methods.loss import AnswerBatch, LossMethod
from unlearn_cli.methods.temperature import kl_at
from unlearn_cli.streams import derive

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedModel


@component
class BadTeacher(LossMethod):
    """Distillation from an incompetent and a competent teacher."""

    retain_loss: Literal["none", "nll", "kl"] = "kl"
    temperature: Positive = 1.0

    def teachers(self, model: PreTrainedModel, data: EditData, context: EditContext) -> Mapping[str, Module]:
        """An untrained model of the same shape."""
        from unlearn_cli.methods.untrained import untrained

        return {"untrained": untrained(model, derive(context.seed, "edit", "teacher"))}

    def forget_loss(self, batch: AnswerBatch) -> Tensor:
        """KL_T(untrained || model)."""
        return kl_at(self.temperature, batch.teachers["untrained"], batch)

    def retain_objective(self, batch: AnswerBatch) -> Tensor:
        """KL_T(base || model), or the NLL."""
        if self.retain_loss != "kl":
            return batch.nll
        return kl_at(self.temperature, batch.reference_logits, batch)
