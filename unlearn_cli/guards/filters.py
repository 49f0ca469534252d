"""Filters: a refusal in place of the answer, decided by the prompt or by the answer that would be given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unlearn_cli.guards.base import Guard
from unlearn_cli.guards.detect import NO_FACT, Detector, Match, detector
from unlearn_cli.guards.refusal import Refusal, refuse
from unlearn_cli.models import forward

if TYPE_CHECKING:
    from transformers import PreTrainedModel

REMOVED = -50.0  # log-probability of what is never said: finite, and nothing beside rounding
NOTHING = -1  # behind the end of an answer that is shorter than others


class InputFilter(Guard):
    """Refuses the prompts that a detector flags."""

    refusal: Tensor  # [tokens]

    def __init__(self, detect: Detector, refusal: Tensor, logits: Refusal) -> None:
        super().__init__()
        self.detect, self.logits = detect, logits
        self.register_buffer("refusal", refusal)

    @property
    def config(self) -> dict[str, Any]:
        """The detector's, and how it refuses."""
        return {"detect": self.detect.config, "refusal": len(self.refusal), "logits": self.logits}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> InputFilter:
        """With tensors of the right shapes."""
        blank = torch.zeros(config["refusal"], dtype=torch.long)
        return cls(detector(config["detect"]), blank, config["logits"])

    def answer_logits(self, model: PreTrainedModel, input_ids: Tensor, positions: Tensor, prompt_end: Tensor) -> Tensor:
        """The refusal's logits in flagged rows."""
        logits = forward.answer_logits(model, input_ids, positions)
        flagged = self.detect(model, input_ids, prompt_end)
        return refuse(logits, flagged, positions, prompt_end, self.refusal, self.logits)


class OutputFilter(Guard):
    """Says the refusal whenever the model would give a forbidden answer, as exact log-probabilities.

    Of the model's law P over whole answers to a prompt with forbidden answer f it makes P'(f) = 0 and
    P'(refusal) = P(refusal) + P(f). Token by token that takes P(f) before its first token is out: one pass ahead.
    """

    answers: Tensor  # [facts, T] the forbidden answer of each fact of `match`, NOTHING behind the end of a shorter one
    refusal: Tensor  # [T], so too

    def __init__(self, match: Match, answers: Tensor, refusal: Tensor) -> None:
        super().__init__()
        self.match = match
        self.register_buffer("answers", answers)
        self.register_buffer("refusal", refusal)

    @property
    def config(self) -> dict[str, Any]:
        """The detector's, and an answer's length."""
        return {"match": self.match.config, "length": len(self.refusal)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> OutputFilter:
        """With tensors of the right shapes."""
        match, length = detector(config["match"]), config["length"]
        assert isinstance(match, Match)
        blank = torch.zeros(len(match.subjects), length, dtype=torch.long)
        return cls(match, blank, torch.zeros(length, dtype=torch.long))

    def answer_logits(self, model: PreTrainedModel, input_ids: Tensor, positions: Tensor, prompt_end: Tensor) -> Tensor:
        """Log-probabilities under P' in rows that ask for one of the facts."""
        logits = forward.answer_logits(model, input_ids, positions)
        fact = self.match.which(input_ids, prompt_end)
        rows = (fact != NO_FACT).nonzero()[:, 0]
        if not len(rows):
            return logits
        ids, ends = input_ids[rows], prompt_end[rows]
        forbidden = self.answers[fact[rows]]
        refusal = self.refusal.expand_as(forbidden)
        said = token_logps(model, ids, ends, forbidden)
        refused = token_logps(model, ids, ends, refusal)
        columns = [
            _moved(
                logits[rows, column], ids, ends, positions[rows, column] - ends, (forbidden, said), (refusal, refused)
            )
            for column in range(positions.shape[1])
        ]
        return logits.index_copy(0, rows, torch.stack(columns, 1).to(logits.dtype))


def token_logps(model: PreTrainedModel, input_ids: Tensor, prompt_end: Tensor, answers: Tensor) -> Tensor:
    """Log-probability [B, T] of each token of answers [B, T] to prompts, given those before it; 0 of NOTHING."""
    there, answers = answers != NOTHING, answers.clamp(min=0)
    places = prompt_end[:, None] + 1 + torch.arange(answers.shape[1], device=answers.device)
    rows = torch.nn.functional.pad(input_ids, (0, answers.shape[1])).scatter(1, places, answers)
    logps = forward.answer_logits(model, rows[:, : int(places.max()) + 1], places - 1).double().log_softmax(-1)
    return logps.gather(-1, answers[..., None])[..., 0].masked_fill(~there, 0.0)


Spelled = tuple[Tensor, Tensor]  # tokens [B, T] and their log-probabilities [B, T]


def _moved(
    logits: Tensor, input_ids: Tensor, prompt_end: Tensor, place: Tensor, forbidden: Spelled, refusal: Spelled
) -> Tensor:
    """Log-probabilities [B, V], not normalised, of the token at `place` [B] of an answer, given those before it.

    With a those k tokens, p'(t | a) is proportional to P(a t), less P(f) where f begins with a t, and with P(f) more
    where the refusal r does. Hence p(f_k | a) (1 - P(f_>k | f_<=k)) if f begins with a, and p(r_k | a) + P(f) / P(r_<k)
    if r does; other tokens keep p(t | a).
    """
    (answer, said), (refused, refused_logps) = forbidden, refusal
    logps = logits.double().log_softmax(-1)
    on_answer, token = _next(input_ids, prompt_end, place, answer)
    rest = said.flip(1).cumsum(1).flip(1) - said  # log P(f_>k | f_<=k)
    less = torch.log(-torch.expm1(rest.clamp(max=0))).gather(1, _inside(place, said))
    old = logps.gather(1, token)
    new = torch.minimum(old, (old + less).clamp(min=REMOVED))
    logps = torch.where(on_answer[:, None], logps.scatter(1, token, new), logps)
    on_refusal, token = _next(input_ids, prompt_end, place, refused)
    before = refused_logps.cumsum(1) - refused_logps  # log P(r_<k)
    gained = said.sum(1, keepdim=True) - before.gather(1, _inside(place, said))
    new = torch.logaddexp(logps.gather(1, token), gained)
    return torch.where(on_refusal[:, None], logps.scatter(1, token, new), logps)


def _next(input_ids: Tensor, prompt_end: Tensor, place: Tensor, answer: Tensor) -> tuple[Tensor, Tensor]:
    """Whether each row's first `place` [B] tokens behind its prompt begin answer [B, T], and the next one [B, 1]."""
    every = torch.arange(answer.shape[1], device=answer.device)
    there = (prompt_end[:, None] + 1 + every).clamp(max=input_ids.shape[1] - 1)
    agrees = (input_ids.gather(1, there) == answer) | (every >= place[:, None])
    token = answer.gather(1, _inside(place, answer))
    within = (place >= 0) & (place < answer.shape[1]) & (token[:, 0] != NOTHING)
    return agrees.all(1) & within, token.clamp(min=0)


def _inside(place: Tensor, answer: Tensor) -> Tensor:
    """`place` [B] as a column of `answer` [B, T]: [B, 1]."""
    return place.clamp(0, answer.shape[1] - 1)[:, None]
