"""GRACE: a codebook beside one MLP, whose entries answer for the prompts around them.

Hartvigsen et al. 2023 (Aging with GRACE, arXiv 2211.11031), algorithm 1. An entry has a key k, a value v, a radius and
a label, its answer. For each prompt that is answered wrongly, with d the distance of its key to the nearest entry's:
d > eps + radius: a new entry of radius eps; else, if the labels differ, a new entry of radius d / 2, and the nearest
shrinks to d / 2 - 1e-5; else the nearest grows to d, if it was smaller. Then v is found by Adam on the answer's NLL.
When a prompt's key is within the radius of the nearest entry, v replaces the layer's output.

An edit states a fact in each of its trained templates; these are the prompts, and the weights stay as they are. A
`forget` edit writes the refusal. With `edit.schedule=sequential` the codebook grows from request to request.

Departures from the authors' code:
- The layer is the MLP's second matrix of block `layer`, by default the last: in models of two blocks the keys of the
  first do not tell all facts of a subject apart. Keys are what it reads, values what it puts out.
- `replace=answer` has a value for each answer token. Theirs is one vector: at the prompt's last token (`last`), at all
  tokens (`all`), or before the prompt's last token (`prompt`; their slice `[:, :token_to_edit]` leaves the query out).
- Labels are compared exactly; the code compares means of token ids.
- The entries of one request are laid out first and their values then found side by side, each on the mean over the
  prompts that it took. Nothing couples entries: with one prompt each this is the same as one after another.
- `shrink_only=false` lets a split enlarge an entry that an earlier one had shrunk, as the code does.
- `eps_quantile` fits the radius to the model: half of that quantile of the distances between a retain prompt's key and
  the nearest one of another fact, so that neighbours' balls just touch.
Published: eps 1, lr 1, 100 steps, cold start, `prompt`, block 35 of GPT-2 XL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import model_validator

from unlearn_cli.component import Count, Fraction, Positive, component
from unlearn_cli.edits.base import FORGETTING
from unlearn_cli.methods.base import EditContext, EditData, EditReport, Need
from unlearn_cli.methods.guarding import GuardMethod

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from unlearn_cli.guards.base import Guard


@component
class GRACE(GuardMethod):
    """General retrieval adaptors for continual editing."""

    VERSION: ClassVar[int] = 2
    at_once: ClassVar[bool] = False

    layer: int = -1
    replace: Literal["answer", "last", "prompt", "all"] = "answer"
    eps: Positive | None = None
    eps_quantile: Fraction | None = 0.01
    shrink_only: bool = True
    lr: Positive = 1.0
    steps: Count = 100
    init: Literal["cold", "warm"] = "cold"
    contexts: Count | None = None

    @model_validator(mode="after")
    def _one_radius(self) -> GRACE:
        if (self.eps is None) == (self.eps_quantile is None):
            given = f"eps = {self.eps} and eps_quantile = {self.eps_quantile}"
            raise ValueError(f"{given}: give one and set the other to null".replace("None", "null"))
        return self

    @property
    def needs(self) -> frozenset[Need]:
        """The requested facts, and retain facts where the radius is taken from them."""
        return frozenset({"forget"} if self.eps_quantile is None else {"forget", "retain"})

    def note(self, op: str) -> str | None:
        """The weights did not change; without targets the refusal is written."""
        said = "GRACE leaves the weights as they were: a guard answers (`unlearn_cli.guards.load`)"
        return f"{said}; it writes the refusal in place of the old objects" if op in FORGETTING else said

    def guard(self, model: PreTrainedModel, data: EditData, context: EditContext) -> tuple[Guard, EditReport]:
        """Lay out entries for the requested facts, and find their values."""
        from unlearn_cli.methods.codebook import extend

        return extend(self, model, data, context)
