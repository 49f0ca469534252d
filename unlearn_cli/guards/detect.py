"""Detectors: which prompts a guard acts on.

A prompt is what stands up to its last position; the columns behind it were answered or are padding and decide nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from unlearn_cli.methods.editing.network import at, blocks, numbers, only, states_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ANYTHING = -1  # behind the end of a pattern that is shorter than the others
NOTHING = -2  # no token: no pattern has it
NO_FACT = -1
CHUNK = 256  # patterns that are compared at once


class Detector(torch.nn.Module, ABC):
    """A part of a guard, on the same terms: tensors are buffers, all else is in `config`."""

    kind: ClassVar[str]

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """What `detector` makes the same from, tensors aside."""

    @abstractmethod
    def forward(self, model: PreTrainedModel, input_ids: Tensor, prompt_end: Tensor) -> Tensor:
        """Whether each row's prompt is flagged [B]."""


class Match(Detector):
    """Flags a prompt that has a subject's tokens, and with `relation` > 0 those of its relation, too."""

    kind: ClassVar[str] = "subject"
    subjects: Tensor  # [facts, subject], ANYTHING behind a shorter one's end
    relations: Tensor  # [facts, relation]

    def __init__(self, facts: int, subject: int, relation: int) -> None:
        super().__init__()
        self.register_buffer("subjects", torch.full((facts, subject), NOTHING))
        self.register_buffer("relations", torch.full((facts, relation), NOTHING))

    @classmethod
    def of(cls, subjects: Tensor, relations: Tensor) -> Match:
        """A detector of the facts with these tokens."""
        made = cls(len(subjects), subjects.shape[1], relations.shape[1])
        made.subjects, made.relations = subjects, relations
        return made

    @property
    def config(self) -> dict[str, Any]:
        """The sizes."""
        facts, subject = self.subjects.shape
        return {"kind": self.kind, "facts": facts, "subject": subject, "relation": self.relations.shape[1]}

    def which(self, input_ids: Tensor, prompt_end: Tensor) -> Tensor:
        """The first fact that each row's prompt is about [B], or NO_FACT."""
        behind = torch.arange(input_ids.shape[1], device=input_ids.device) > prompt_end[:, None]
        prompts = input_ids.masked_fill(behind, NOTHING)
        pairs = zip(self.subjects.split(CHUNK), self.relations.split(CHUNK), strict=True)
        found = torch.cat([_occur(prompts, subject) & _occur(prompts, relation) for subject, relation in pairs], 1)
        return torch.where(found.any(1), found.int().argmax(1), NO_FACT)

    def forward(self, model: PreTrainedModel, input_ids: Tensor, prompt_end: Tensor) -> Tensor:
        """Whether each row's prompt is about any of the facts."""
        return self.which(input_ids, prompt_end) != NO_FACT


class Probe(Detector):
    """Flags a prompt whose last token's state behind block `layer` scores above a threshold, linearly."""

    kind: ClassVar[str] = "probe"
    weight: Tensor  # [size]
    threshold: Tensor  # []

    def __init__(self, layer: int, size: int) -> None:
        super().__init__()
        self.layer = layer
        self.register_buffer("weight", torch.zeros(size))
        self.register_buffer("threshold", torch.zeros(()))

    @property
    def config(self) -> dict[str, Any]:
        """The block and the width of its output."""
        return {"kind": self.kind, "layer": self.layer, "size": len(self.weight)}

    def forward(self, model: PreTrainedModel, input_ids: Tensor, prompt_end: Tensor) -> Tensor:
        """Whether each row's score is above the threshold."""
        return states(model, input_ids, prompt_end, self.layer) @ self.weight > self.threshold


def detector(config: dict[str, Any]) -> Detector:
    """Make a detector of its `config`, with tensors of the right shapes."""
    kinds: dict[str, type[Detector]] = {kind.kind: kind for kind in (Match, Probe)}
    sizes = {name: value for name, value in config.items() if name != "kind"}
    return kinds[config["kind"]](**sizes)


@torch.no_grad()
def states(model: PreTrainedModel, input_ids: Tensor, prompt_end: Tensor, layer: int) -> Tensor:
    """What block `layer`, counted from the end if negative, puts out at each row's last prompt token [B, d]."""
    (number,) = numbers(model, [layer])
    every = blocks(model)
    kept: list[Any] = []
    hook = every[number].register_forward_hook(lambda _, __, out: kept.append(out))
    try:
        with only(model, every[: number + 1]) as body:
            body(input_ids=input_ids[:, : int(prompt_end.max()) + 1], use_cache=False)
    finally:
        hook.remove()
    return at(states_of(kept[0]), prompt_end[:, None])[:, 0]


def _occur(rows: Tensor, patterns: Tensor) -> Tensor:
    """Whether each of `patterns` [n, W] stands anywhere in each of `rows` [B, L]: [B, n]; one of no tokens does."""
    length = rows.shape[1]
    here = torch.ones(*rows.shape, len(patterns), dtype=torch.bool, device=rows.device)
    for place, token in enumerate(patterns.T):
        later = pad(rows, (0, place), value=NOTHING)[:, place : place + length, None]
        here &= (later == token) | (token == ANYTHING)
    return here.any(1)
