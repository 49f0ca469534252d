"""Tokens put before every prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unlearn_cli.errors import UnlearnError
from unlearn_cli.guards.base import Guard
from unlearn_cli.models import forward

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Prefix(Guard):
    """The model as it answers behind a text of its own vocabulary; every prompt has it, none is flagged."""

    prefix: Tensor  # [tokens]

    def __init__(self, prefix: Tensor) -> None:
        super().__init__()
        self.register_buffer("prefix", prefix)

    @property
    def config(self) -> dict[str, Any]:
        """Its length."""
        return {"tokens": len(self.prefix)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Prefix:
        """With as many tokens."""
        return cls(torch.zeros(config["tokens"], dtype=torch.long))

    def answer_logits(self, model: PreTrainedModel, input_ids: Tensor, positions: Tensor, prompt_end: Tensor) -> Tensor:
        """Logits at the same tokens, which stand later; UnlearnError if the model has no position for one."""
        read = input_ids[:, : int(positions.max()) + 1]
        require_room(model, len(self.prefix), read.shape[1])
        rows = torch.cat([self.prefix.expand(len(read), -1), read], dim=1)
        return forward.answer_logits(model, rows, positions + len(self.prefix))


def require_room(model: PreTrainedModel, prefix: int, row: int) -> None:
    """UnlearnError if a row of that many tokens behind a prefix of that many is longer than the model reads."""
    most = model.config.max_position_embeddings
    if prefix + row > most:
        raise UnlearnError(
            f"a prefix of {prefix} tokens and a row of {row} are more than the model's {most} positions;"
            " lower method.demonstrations, or raise model.max_positions"
        )
