"""ULD, unlearning from logit difference: a small assistant learns what is to be forgotten, and is subtracted.

Ji et al. 2024 (arXiv 2406.08607), "Reversing the Forget-Retain Objectives", section 3: the assistant is the base's
first blocks with its embeddings, final norm and output layer; it minimises NLL(D_f) + 5 mean KL(uniform || p) on D_r,
at all positions, and z_base + w z_assistant is served, w < 0. Where the assistant is flat it adds a constant, so that
other facts stay as they are without being taught. D_r also holds perturbed answers to the requested facts, so that the
assistant learns the objects and not that a sentence goes on. Tokens that the base finds unlikely keep its logits
(`guards.uld.likely`).

Departures from the authors' code: z_assistant is centred, since its arbitrary offset else shifts filtered tokens
against the others; the filter keeps one token at least (theirs, with 1 % of fewer than 100 tokens, keeps all);
perturbed sentences count behind the first wrong token only, since before it they are the ones to be learnt; paraphrases
are the trained templates. Published: 8 of 32 blocks, LoRA of rank 16, alpha 32, dropout .05, lr 1e-3, 10 epochs,
weight -0.8 (-1 in the shipped configuration), filter .01 (.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from unlearn_cli.component import Count, Fraction, NonNegative, Positive, component
from unlearn_cli.methods.base import EditContext, EditData, EditReport, Need
from unlearn_cli.methods.guarding import GuardMethod
from unlearn_cli.methods.loss import Adapter

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from unlearn_cli.guards.base import Guard


@component
class ULD(GuardMethod):
    """Unlearning from logit difference."""

    weight: float = -1.0
    top_filter: Fraction = 0.01
    centre: bool = True
    layers: Count = 1
    steps: Count = 100
    lr: Positive = 3e-3
    retain_batch: Count = 50
    uniform_weight: NonNegative = 5.0
    perturb: bool = True
    adapter: Adapter = Field(default_factory=Adapter)

    @model_validator(mode="after")
    def _plain_adapter(self) -> ULD:
        if self.adapter.init != "zero":
            raise ValueError(
                f"adapter.init = {self.adapter.init}: weighs the facts of the base, not those to learn; zero"
            )
        return self

    @property
    def needs(self) -> frozenset[Need]:
        """Both sets, with their roles exchanged."""
        return frozenset({"forget", "retain"})

    def guard(self, model: PreTrainedModel, data: EditData, context: EditContext) -> tuple[Guard, EditReport]:
        """Cut the assistant out of the model, and train it."""
        from unlearn_cli.guards.network import first_blocks
        from unlearn_cli.guards.uld import LogitDifference
        from unlearn_cli.methods.assistant import train

        assistant = first_blocks(model, self.layers)
        report = train(assistant, self, data, context)
        return LogitDifference(assistant, self.weight, self.top_filter, self.centre), report
