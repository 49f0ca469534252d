"""Random label: fine-tune the requested facts on wrong answers.

The classic baseline of machine unlearning, for language models in Yao et al. 2024 (arXiv 2402.15159, "fine-tuning with
random labels" and "with adversarial samples"): L = NLL of (x, y'), y' a wrong answer. Wrong answers here are whole
objects of the fact's relation, never the true one, instead of uniform tokens of the vocabulary:

- `other_object`: uniform over the relation's other objects;
- `shuffle`: the object of another requested fact of the relation that has a different one (without one: as above);
- `adversarial`: token by token the model's likeliest token that is not the true one, the old object's earlier tokens
  given; the current model's with `resample=step`, the base's with `once`.

Drawn anew each step, the optimum is the uniform distribution over what can be drawn; drawn once, the model learns a
false fact. Published: lr 2e-5, one epoch. Small worlds want few steps: at the end all objects tie.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from unlearn_cli.component import component
from unlearn_cli.methods.alternatives import other_objects, resampled, shuffled_objects
from unlearn_cli.methods.base import EditContext, EditData
from unlearn_cli.methods.loss import AnswerBatch, Draw
from unlearn_cli.methods.relabel import Relabel
from unlearn_cli.worlds.vocabulary import Ids

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedModel


@component
class RandomLabel(Relabel):
    """Training on wrong answers."""

    sampler: Literal["other_object", "shuffle", "adversarial"] = "other_object"
    resample: Literal["step", "once"] = "step"

    def answers(self, draw: Draw) -> Ids:
        """Wrong objects; adversarial tokens are found in the loss, under the old ones."""
        if self.sampler == "adversarial":
            return draw.old
        return resampled(other_objects if self.sampler == "other_object" else shuffled_objects, draw, self.resample)

    def teachers(self, model: PreTrainedModel, data: EditData, context: EditContext) -> Mapping[str, Module]:
        """The base, where adversarial tokens are its own."""
        fixed = self.sampler == "adversarial" and self.resample == "once"
        return {"base": copy.deepcopy(model)} if fixed else {}

    def forget_loss(self, batch: AnswerBatch) -> Tensor:
        """NLL of the wrong answers."""
        if self.sampler != "adversarial":
            return batch.nll
        logits = batch.teachers.get("base", batch.logits.detach())
        wrong = logits.scatter(-1, batch.labels[..., None], -float("inf")).argmax(-1)
        return replace(batch, labels=wrong).nll
