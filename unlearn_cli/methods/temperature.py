"""Distillation at a temperature."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unlearn_cli.methods.loss import AnswerBatch, kl

if TYPE_CHECKING:
    from torch import Tensor


def kl_at(temperature: float, teacher: Tensor | None, batch: AnswerBatch) -> Tensor:
    """KL(teacher || model) in nats with both logits [B, T, V] divided by the temperature, mean over answer tokens."""
    if teacher is None:
        raise ValueError("this loss reads another model's logits")
    return batch.token_mean(kl(teacher / temperature, batch.logits / temperature))
