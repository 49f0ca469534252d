"""MEND: a hypernetwork makes a fact's gradient into an edit; it is trained beforehand, on edits of other facts.

Mitchell et al. 2022 (arXiv 2110.11309), eqs. 3 to 5: the gradient of the target's NLL by a matrix is a sum over tokens
of delta u'. Both are normalised, go through a low-rank MLP that is the identity at first and is shared by matrices of a
shape (with a scale and a shift for each), and give Delta W = -lr sum_t v~_t u~_t'. Trained by c_edit * NLL of the
edited fact in other templates + c_loc * KL(base || edited) on facts that must not change; u and delta are constants.
Settled here:

- It is trained on retain facts, to which it gives other objects of their relation or the refusal, and never sees a
  requested one. Half of the facts that must not change are as near to the edited ones as the pool has them.
- In training up to `at_once` facts are edited together, a number drawn each step, so that the editor learns to edit in
  batches; published: one. Trained with 1 it breaks small models at a batch of eight.
- A fact is shown in several templates (published: one sentence), and Delta W is the sum over all of them.
- Moments are taken for each matrix (the authors' code: for each shape) from tokens with a gradient; the learning rate
  is learned by its logarithm. Nothing accumulates gradients or stops early: the learning rate falls to zero instead.
- An edit is scaled by the least of 1/8 to 2 with which nine tenths of the requested facts' trained templates give the
  target, or by the one with which most do (published, and with `scale` = 1: not at all): edits of many facts add up
  where their targets agree.
- A `forget` edit writes the refusal as the null object.
Published for models of billions of weights: the MLPs of the last three blocks, rank 1920, Adam with lr 1e-6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, model_validator

from unlearn_cli.component import Count, Fraction, Natural, NonNegative, Positive, component
from unlearn_cli.edits.base import EVERY, FORGETTING
from unlearn_cli.methods.base import EditContext, EditData, EditReport, Method, Need

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@component
class HypernetTraining:
    """The hypernetwork and its training."""

    rank: Count = 128
    hidden_layers: Natural = 1
    edit_lr: Positive = 3e-4
    steps: Count = 600
    lr: Positive = 1e-3
    lr_lr: Positive = 1e-2
    max_grad_norm: Positive | None = 100.0
    edits: Count = 16
    at_once: Count = 16
    paraphrases: Count = 2
    others: Count = 64
    refusals: Fraction = 0.2
    c_edit: NonNegative = 0.3
    c_loc: NonNegative = 1.0

    @model_validator(mode="after")
    def _something_to_learn(self) -> HypernetTraining:
        if self.c_edit == 0 and self.c_loc == 0:
            raise ValueError("c_edit = 0 and c_loc = 0 leave nothing to learn")
        return self


@component
class MEND(Method):
    """Model editor networks with gradient decomposition."""

    VERSION: ClassVar[int] = 1
    takes: ClassVar[frozenset[str]] = EVERY
    prepares: ClassVar[frozenset[str] | None] = frozenset({"scope", "contexts", "editor"})

    scope: str = "mlp"
    contexts: Count = 2
    scale: Positive | None = None
    editor: HypernetTraining = Field(default_factory=HypernetTraining)

    @model_validator(mode="after")
    def _known_scope(self) -> MEND:
        from unlearn_cli.methods.scope import parse_scope

        parse_scope(self.scope)
        return self

    @property
    def needs(self) -> frozenset[Need]:
        """The requested facts to edit, retain facts to train on."""
        return frozenset({"forget", "retain"})

    def note(self, op: str) -> str | None:
        """What its cost leaves out; without targets the refusal is written."""
        said = "MEND's editor is trained beforehand, in the stage `prepare`: `cost` is that of the edit alone"
        return f"{said}; it writes the refusal in place of the old objects" if op in FORGETTING else said

    def prepare(self, model: PreTrainedModel, data: EditData, context: EditContext) -> EditReport:
        """Train the hypernetwork."""
        from unlearn_cli.methods.hypernet_training import train_editor

        return train_editor(self, model, data, context)

    def edit(self, model: PreTrainedModel, data: EditData, context: EditContext) -> EditReport:
        """Apply it."""
        from unlearn_cli.methods.hypernet_editing import edit_by

        return edit_by(self, model, data, context)
