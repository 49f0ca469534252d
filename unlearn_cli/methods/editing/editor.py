"""What editors in closed form have in common: where they write, how a value is found, which old keys they spare.

An MLP's second matrix W maps a key k, the hidden units at one token, to a value W k. An editor asks which change delta
of the value makes the model answer the target, and solves for the change of W that brings it about at the fact's key
and does as little as possible to the keys of other facts, whose second moment is C. Settled for all editors:

- The fact's contexts are the trained templates; the published code samples prefixes from the model. Keys and values are
  means over contexts.
- `site=answer` edits at the tokens that predict the answer, one key for each answer token. The papers edit at the last
  token of the subject, `site=subject`: models of a few blocks look a fact up only after reading the relation, and a
  change before it moves every fact of the subject.
- C is taken over retain facts at the same site, with a ridge; published: over all tokens of Wikipedia.
- Where a norm stands between W and the states, delta is searched in front of it, in a ball around W k, and several
  blocks share what is added behind it. The published code adds delta to the states, and solves as if W did.
- A `forget` edit writes the refusal as the null object.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from unlearn_cli.component import Count, NonNegative, Positive, component
from unlearn_cli.edits.base import EVERY, FORGETTING
from unlearn_cli.methods.base import EditContext, EditData, EditReport, Method, Need

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

Site = Literal["answer", "subject"]


@component
class Value:
    """How the change delta of the value is found: Adam on the answer loss, delta kept in a ball."""

    lr: Positive = 0.2
    steps: Count = 60
    weight_decay: NonNegative = 0.01  # weight of |delta| / |v0|^2, v0 the value before the edit
    clamp: Positive = 4.0  # |delta| <= clamp |v0|
    kl: NonNegative = 0.0  # weight of KL(edited || base) on the other relations of the subject
    stop_loss: NonNegative = 0.05  # a fact whose loss is below this is left


@component
class Moment:
    """How the second moment C of old keys is estimated."""

    sentences: Count = 1000  # of retain facts, drawn from all their templates
    ridge: Positive = 0.01  # C + ridge * mean diagonal of C * I


@dataclass(frozen=True, eq=False)
class Wanted:
    """What an edit is to do at its keys, in float64; a column for each fact and site."""

    keys: Tensor  # [d_ff, m] means over contexts
    first_keys: Tensor  # [d_ff, m] of the first context alone
    change: Tensor  # [d, m] by which W k is to change
    facts: int
    earlier: Tensor | None = None  # [d_ff, d_ff] K K' of the keys of earlier requests; None: the first


@component
class Editor(Method):
    """Subclasses give `layers` or what stands for them, and `delta`."""

    VERSION: ClassVar[int] = 2
    takes: ClassVar[frozenset[str]] = EVERY
    one_by_one: ClassVar[bool] = False  # whether facts are edited one after the other, each on the model so far
    anchor: ClassVar[Literal["mlp", "block"]] = "block"  # whose output v0 is

    site: Site = "answer"
    contexts: Count | None = None
    value: Value = Field(default_factory=Value)
    moment: Moment = Field(default_factory=Moment)

    @property
    def needs(self) -> frozenset[Need]:
        """The requested facts, and retain facts for C."""
        return frozenset({"forget", "retain"})

    def note(self, op: str) -> str | None:
        """Without targets the refusal is written."""
        if op in FORGETTING:
            return f"{type(self).__name__} writes the refusal in place of the old objects"
        return None

    @property
    @abstractmethod
    def edited_layers(self) -> tuple[int, ...]:
        """The blocks whose matrix is edited, from 0 or, counted from the end, from -1."""

    @property
    def remembers(self) -> bool:
        """Whether it keeps C, and the keys it edited, from one request of a sequence to the next."""
        return False

    @abstractmethod
    def delta(self, moment: Tensor, wanted: Wanted) -> Tensor:
        """The change of W [d, d_ff], given C [d_ff, d_ff] with its ridge, in float64."""

    def describe(self, moment: Tensor) -> dict[str, float]:
        """What a reader should know of an edited block, given its C."""
        return {}

    def edit(self, model: PreTrainedModel, data: EditData, context: EditContext) -> EditReport:
        """Run the shared procedure."""
        from unlearn_cli.methods.editing.run import run_editor

        return run_editor(self, model, data, context)
