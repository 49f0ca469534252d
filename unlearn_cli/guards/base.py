"""What every guard is: it answers in place of a model whose weights it leaves alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Guard(torch.nn.Module, ABC):
    """Rewrites what a model says. Its tensors are buffers or parameters; all else that it needs is in `config`."""

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """What `from_config` makes the same guard from, tensors aside: plain values that JSON can hold."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The guard with tensors of the right shapes, which are then read from disk."""
        return cls(**config)

    @abstractmethod
    def answer_logits(self, model: PreTrainedModel, input_ids: Tensor, positions: Tensor, prompt_end: Tensor) -> Tensor:
        """Logits [B, P, V] of what follows `positions` [B, P] of rows [B, L].

        `prompt_end` [B] is each prompt's last position: what stands behind it was answered, and decides nothing about
        the prompt. Rows that the guard lets pass have the model's own logits, bit for bit.
        """


class Guarded(torch.nn.Module):
    """A model behind its guard."""

    def __init__(self, model: PreTrainedModel, guard: Guard) -> None:
        super().__init__()
        self.model, self.guard = model, guard

    def answer_logits(self, input_ids: Tensor, positions: Tensor, prompt_end: Tensor) -> Tensor:
        """Next-token logits [B, P, V] as `models.forward.answer_logits` returns them."""
        return self.guard.answer_logits(self.model, input_ids, positions, prompt_end)

    @torch.no_grad()
    def generate(self, input_ids: Tensor, max_new_tokens: int) -> Tensor:
        """Continue prompts [B, L] of one length greedily: [B, L + max_new_tokens]."""
        prompt_end = torch.full((len(input_ids),), input_ids.shape[1] - 1, device=input_ids.device)
        for _ in range(max_new_tokens):
            last = torch.full_like(prompt_end[:, None], input_ids.shape[1] - 1)
            logits = self.answer_logits(input_ids, last, prompt_end)
            input_ids = torch.cat([input_ids, logits[:, 0].argmax(-1, keepdim=True)], dim=1)
        return input_ids
