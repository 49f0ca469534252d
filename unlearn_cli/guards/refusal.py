"""What a guard says in place of an answer: logits of the refusal, or of nothing at all."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import one_hot

Refusal = Literal["onehot", "uniform"]

SURE = 30.0  # logit of the refusal over the others', nats: certain in float32, and no log-probability infinite


def refusal_logits(refusal: Tensor, places: Tensor, vocab: int, kind: Refusal = "onehot") -> Tensor:
    """Logits [B, P, V] at `places` [B, P] of an answer, 0 where its first token is next.

    onehot: the tokens `refusal` [T] for certain, the last one again behind their end; uniform: every token alike.
    """
    if kind == "uniform":
        return torch.zeros(*places.shape, vocab, device=places.device)
    said = refusal[places.clamp(0, len(refusal) - 1)]
    return SURE * one_hot(said, vocab).float()


def refuse(
    logits: Tensor, flagged: Tensor, positions: Tensor, prompt_end: Tensor, refusal: Tensor, kind: Refusal = "onehot"
) -> Tensor:
    """`logits` [B, P, V] at `positions` [B, P], but the refusal's behind the prompt's end of a `flagged` [B] row."""
    places = positions - prompt_end[:, None]
    said = refusal_logits(refusal, places, logits.shape[-1], kind).to(logits.dtype)
    return torch.where((flagged[:, None] & (places >= 0))[..., None], said, logits)
