"""What every loss method is: a term on the requested facts, weighed against a term on retain facts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from unlearn_cli.component import Count, Natural, NonNegative, Positive, component
from unlearn_cli.edits.base import CHANGING, EVERY
from unlearn_cli.methods.base import EditContext, EditData, EditReport, Method, Need
from unlearn_cli.methods.mask import Mask
from unlearn_cli.methods.rewind import Rewind
from unlearn_cli.methods.select import Select
from unlearn_cli.worlds.vocabulary import Ids

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedModel

    from unlearn_cli.worlds.base import WorldData


@component
class Adapter:
    """LoRA (Hu et al. 2021, arXiv 2106.09685): W + (alpha / rank) B A, merged into W when the edit ends."""

    rank: Natural = 0  # 0: no adapter, the weights themselves are trained
    alpha: Count | None = None  # null: equal to rank, so that the step grows with it
    init: Literal["zero", "fila"] = "zero"  # fila: from the weights that the forget set needs most (methods/fila.py)

    @model_validator(mode="after")
    def _something_to_initialise(self) -> Adapter:
        if self.init == "fila" and not self.rank:
            raise ValueError("init = fila: initialises an adapter, so rank >= 1")
        return self


@dataclass(frozen=True, eq=False)
class Draw:
    """The requested facts of one step, before they are written."""

    world: WorldData
    facts: Ids  # [B]
    places: Ids  # [B] of the templates among `world.language.asked`
    templates: Ids  # [B]
    target: Ids | None  # [B] new objects; None when the request names none
    rng: np.random.Generator  # for what a method draws itself
    seed: int = 0  # of the edit, for draws that must be the same in every step

    @property
    def old(self) -> Ids:
        """The objects that are to go [B]."""
        return self.world.facts.object[self.facts]


@dataclass(frozen=True)
class Place:
    """Where hidden states are read: behind which block, at which tokens."""

    layer: int  # negative: counted from the last block
    positions: Literal["answer", "all"]  # answer: those that predict the answer | all: of the whole sentence


@dataclass(frozen=True, eq=False)
class AnswerBatch:
    """A model's logits where it must say the answers, and what a loss may need beside them."""

    logits: Tensor  # [B, T, V]
    labels: Tensor  # [B, T] tokens of the answers, PADDING behind the end of a shorter one
    reference_logps: Tensor | None = None  # [B, T] token log-probabilities under the frozen base
    reference_logits: Tensor | None = None  # [B, T, V] of the frozen base
    teachers: Mapping[str, Tensor] = field(default_factory=dict)  # logits [B, T, V] of a method's own teachers
    alternative: AnswerBatch | None = None  # the same prompts with the method's alternative answers
    context_logps: Tensor | None = None  # [N] log-probabilities of all tokens that are no answer
    hidden: Tensor | None = None  # [N, d] states at the method's place, of all sentences' positions
    reference_hidden: Tensor | None = None  # [N, d] of the frozen base
    continuations: Tensor | None = None  # [B, T, V] objects of the relation that go on with each token
    seed: int = 0  # of the edit, for draws that must be the same in every step
    mask: Tensor | None = None  # [B, T] whether an answer's token stands in a place; None: in every one

    def counted(self, values: Tensor) -> Tensor:
        """Values [B, T, ...] of the answer tokens [N, ...]; without a mask as they are."""
        return values if self.mask is None else values[self.mask]

    def token_mean(self, values: Tensor) -> Tensor:
        """Mean of values [B, T, ...] over all answer tokens of the batch, long answers weighing more."""
        return self.counted(values).mean()

    def sequence_sum(self, values: Tensor) -> Tensor:
        """Sum of values [B, T] over each answer's tokens [B]."""
        return values.sum(-1) if self.mask is None else values.masked_fill(~self.mask, 0.0).sum(-1)

    def sequence_mean(self, values: Tensor) -> Tensor:
        """Mean of values [B, T] over each answer's tokens [B], whatever their number."""
        return values.mean(-1) if self.mask is None else self.sequence_sum(values) / self.mask.sum(-1)

    @cached_property
    def all_logps(self) -> Tensor:
        """log p(v | x, y_<t) [B, T, V] in float32, or wider if the logits are."""
        wide = self.logits if self.logits.dtype.itemsize > 4 else self.logits.float()
        return wide.log_softmax(-1)

    @cached_property
    def logps(self) -> Tensor:
        """log p(y_t | x, y_<t) [B, T]."""
        return self.all_logps.gather(-1, self.labels[..., None])[..., 0]

    @property
    def nll(self) -> Tensor:
        """Mean over all answer tokens of the batch, the Hugging Face loss."""
        return -self.token_mean(self.logps)

    @property
    def sequence_logps(self) -> Tensor:
        """log pi(y|x) of each whole answer [B]."""
        return self.sequence_sum(self.logps)

    @property
    def right(self) -> Tensor:
        """Whether each answer is the greedy one, token by token, its earlier tokens given [B]."""
        found = self.logits.argmax(-1) == self.labels
        return (found if self.mask is None else found | ~self.mask).all(-1)

    @property
    def token_log_ratio(self) -> Tensor:
        """r_t = log p(y_t) - log p_ref(y_t) [B, T]."""
        if self.reference_logps is None:
            raise ValueError("this loss reads reference log-probabilities: set reads_reference on its class")
        return self.logps - self.reference_logps

    @property
    def log_ratio(self) -> Tensor:
        """r = log pi(y|x) - log pi_ref(y|x) of each sequence [B], summed over its tokens."""
        return self.sequence_sum(self.token_log_ratio)

    @property
    def kl_from_reference(self) -> Tensor:
        """KL(base || model) in nats, averaged over answer tokens."""
        if self.reference_logits is None:
            raise ValueError("this loss reads reference logits: set reads_reference or reads_retain_reference")
        return self.token_mean(kl(self.reference_logits, self.logits))


def kl(reference: Tensor, logits: Tensor) -> Tensor:
    """KL(reference || model) in nats at each place [B, T]; logits [B, T, V] of both, before softmax."""
    from torch.nn.functional import kl_div

    mine, theirs = logits.float().log_softmax(-1), reference.float().log_softmax(-1)
    return kl_div(mine, theirs, reduction="none", log_target=True).sum(-1)


@component
class LossMethod(Method):
    """Subclasses give `forget_loss`, and what else of the hooks below they need."""

    VERSION: ClassVar[int] = 2
    takes: ClassVar[frozenset[str]] = EVERY
    loops: ClassVar[bool] = True
    trains_on: ClassVar[Literal["old", "new"]] = "old"  # which object the requested facts are written with
    reads_reference: ClassVar[Literal["none", "logps", "logits"]] = "none"  # what forget_loss needs of the frozen base
    reads_context: ClassVar[bool] = False  # whether forget_loss needs the tokens around the answers

    steps: Count = 60
    lr: Positive = 3e-4
    weight_decay: NonNegative = 0.0
    warmup_steps: Natural = 5
    max_grad_norm: Positive | None = None
    forget_batch: Count | None = None
    retain_batch: Count = 50
    forget_weight: NonNegative = 1.0
    retain_loss: Literal["none", "nll", "kl"] = "nll"
    retain_weight: NonNegative = 1.0
    scope: str = "all"
    adapter: Adapter = Field(default_factory=Adapter)
    mask: Mask = Field(default_factory=Mask)
    select: Select = Field(default_factory=Select)
    stop_loss: float | None = None
    stop_accuracy: NonNegative | None = None
    save_every: Count | None = None

    @model_validator(mode="after")
    def _something_to_do(self) -> LossMethod:
        if self.forget_weight == 0 and (self.retain_loss == "none" or self.retain_weight == 0):
            raise ValueError("forget_weight = 0 with no retain loss leaves nothing to train on")
        return self

    @model_validator(mode="after")
    def _maskable(self) -> LossMethod:
        if self.mask.kind != "none" and self.adapter.rank:
            raise ValueError(
                f"mask.kind = {self.mask.kind} and adapter.rank = {self.adapter.rank}: masks are of the"
                " weights themselves, so rank 0"
            )
        missing = {"salun": {"forget"}, "wagle": {"forget", "retain"}}.get(self.mask.kind, set()) - self.needs
        if missing:
            raise ValueError(
                f"mask.kind = {self.mask.kind}: reads {' and '.join(sorted(missing))} facts,"
                " which this method is not given"
            )
        return self

    @model_validator(mode="after")
    def _something_to_select(self) -> LossMethod:
        if self.select.kind != "none" and "forget" not in self.needs:
            raise ValueError(f"select.kind = {self.select.kind}: this method is given no requested facts; none")
        return self

    @model_validator(mode="after")
    def _known_scope(self) -> LossMethod:
        from unlearn_cli.methods.scope import parse_scope

        parse_scope(self.scope)
        return self

    @model_validator(mode="after")
    def _fila_has_both_sets(self) -> LossMethod:
        if self.adapter.init == "fila" and self.needs != {"forget", "retain"}:
            raise ValueError("adapter.init = fila: weighs forget against retain facts, so both terms must be used")
        return self

    @property
    def between_steps(self) -> str | None:
        """Masks, terms on the weights, and models of the path."""
        if self.mask.kind != "none":
            return f"mask.kind={self.mask.kind}"
        if self.save_every:
            return f"save_every={self.save_every}"
        own = [name for name in ("penalty", "projection", "rewind_to") if name in _overridden(type(self))]
        return f"its {own[0].removesuffix('_to')}" if own else None

    @property
    def needs(self) -> frozenset[Need]:
        """Forget and retain facts as far as their terms are used."""
        forget: set[Need] = {"forget"} if self.forget_weight else set()
        retain: set[Need] = {"retain"} if self.retain_loss != "none" and self.retain_weight else set()
        return frozenset(forget | retain)

    @property
    def reads_retain_reference(self) -> bool:
        """Whether the retain term needs the frozen base's logits."""
        return self.retain_loss == "kl"

    @property
    def reads_continuations(self) -> bool:
        """Whether forget_loss needs to know with which tokens an object of the relation can go on."""
        return False

    @property
    def reads_hidden(self) -> Place | None:
        """Where the terms read hidden states of the model and of the frozen base; None for terms that read none."""
        return None

    @property
    def reads_base(self) -> bool:
        """Whether a frozen copy of the base is read; for other methods none is made."""
        return self.reads_reference != "none" or self.reads_retain_reference or self.reads_hidden is not None

    def note(self, op: str) -> str | None:
        """Methods that only know the old object forget it; they do not learn the new one."""
        if op in CHANGING and self.trains_on == "old":
            return f"{type(self).__name__} forgets the old objects of a {op} edit; it is not shown the new ones"
        return None

    @abstractmethod
    def forget_loss(self, batch: AnswerBatch) -> Tensor:
        """The paper's term on the requested facts: a scalar to minimise."""

    def retain_objective(self, batch: AnswerBatch) -> Tensor:
        """The term on retain facts: a scalar to minimise."""
        return batch.kl_from_reference if self.retain_loss == "kl" else batch.nll

    def answers(self, draw: Draw) -> Ids:
        """The objects [B] with which the requested facts are written."""
        return draw.target if self.trains_on == "new" and draw.target is not None else draw.old

    def alternatives(self, draw: Draw) -> Ids | None:
        """The objects [B] of `batch.alternative`, or None for a method that has none."""
        return None

    def teachers(self, model: PreTrainedModel, data: EditData, context: EditContext) -> Mapping[str, Module]:
        """Models, made before the first step, whose logits on the requested facts forget_loss reads."""
        return {}

    def penalty(self, model: Module, seed: int) -> Callable[[int], Tensor] | None:
        """A term on the weights in a step, given the model before the first one and the edit's seed; None for none.

        It follows from the step and the weights alone, so that an edit that was stopped can go on.
        """
        return None

    def projection(self, model: Module) -> Callable[[], None] | None:
        """What brings the weights back into the allowed set after each step, given the model before the first one."""
        return None

    def rewind_to(self, data: EditData) -> Rewind | None:
        """Which model of the path is kept in the end; None for the last."""
        return None

    def weights(self, step: int) -> tuple[float, float]:
        """Weights of the forget and the retain term in a step; a term of weight 0 is not computed."""
        return self.forget_weight, self.retain_weight

    def edit(self, model: PreTrainedModel, data: EditData, context: EditContext) -> EditReport:
        """Run the shared loop."""
        from unlearn_cli.methods.loop import train_edit

        return train_edit(self, model, data, context)


def _overridden(kind: type[LossMethod]) -> set[str]:
    """Hooks that a class does not leave as they are here."""
    return {name for name, hook in vars(LossMethod).items() if getattr(kind, name) is not hook}
