"""Adds another model's logits to a model's own, where the own ones are not far below the best."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from unlearn_cli.guards import network
from unlearn_cli.guards.base import Guard
from unlearn_cli.models.forward import answer_logits

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class LogitDifference(Guard):
    """z = z_base + weight * z_assistant, for every prompt alike: no row passes, `weight` 0 is the base."""

    def __init__(self, assistant: PreTrainedModel, weight: float, top_filter: float, centre: bool) -> None:
        super().__init__()
        self.assistant = assistant
        self.weight, self.top_filter, self.centre = weight, top_filter, centre

    @property
    def config(self) -> dict[str, Any]:
        """The assistant's shape, and how its logits are added."""
        return {
            "assistant": network.described(self.assistant),
            "weight": self.weight,
            "top_filter": self.top_filter,
            "centre": self.centre,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """With an assistant of the right shape."""
        return cls(**config | {"assistant": network.made(config["assistant"])})

    def answer_logits(self, model: PreTrainedModel, input_ids: Tensor, positions: Tensor, prompt_end: Tensor) -> Tensor:
        """Ask both."""
        base = answer_logits(model, input_ids, positions)
        assistant = answer_logits(self.assistant, input_ids, positions)
        return combined(base, assistant, self.weight, self.top_filter, self.centre)


def combined(base: Tensor, assistant: Tensor, weight: float, top_filter: float, centre: bool) -> Tensor:
    """Logits [..., V] of both as one: the base's own where it is filtered, since there nothing is added."""
    if centre:
        assistant = assistant - assistant.mean(-1, keepdim=True)
    return base + weight * assistant.masked_fill(~likely(base, top_filter), 0.0)


def likely(base: Tensor, share: float) -> Tensor:
    """Which tokens of logits [..., V] are not filtered: the best `share` of them, and all above `share` of the best.

    At least one: rounded down as in the authors' code, the best 1 % of a small vocabulary would be none.
    """
    logps = base.log_softmax(-1)
    count = max(1, int(share * base.shape[-1]))
    low_rank = logps.topk(count, dim=-1).values[..., -1:]
    low_probability = logps.amax(-1, keepdim=True) + (math.log(share) if share else -math.inf)
    return logps >= torch.minimum(low_rank, low_probability)
