"""Boxes in key space: a prompt whose key falls into one is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from unlearn_cli.guards.base import Guard
from unlearn_cli.guards.hooks import keys
from unlearn_cli.guards.refusal import Refusal, refuse
from unlearn_cli.models.forward import answer_logits

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Require = Literal["any", "all"]

ELEMENTS = 2**24  # compared at once: bounds the memory


class KeySpace(Guard):
    """N boxes in each of some layers, around what the MLP's second matrix reads at the last token of prompts."""

    center: Tensor  # [N, layers, d_ff]
    reach: Tensor  # [N, layers, d_ff] half of a box's width, > 0
    refusal: Tensor  # [T] tokens

    def __init__(
        self, layers: list[int], require: Require, gamma: float, says: Refusal, boxes: int, key: int, refusal: int
    ) -> None:
        super().__init__()
        self.layers, self.require, self.gamma, self.says = layers, require, gamma, says
        self.register_buffer("center", torch.zeros(boxes, len(layers), key))
        self.register_buffer("reach", torch.ones(boxes, len(layers), key))
        self.register_buffer("refusal", torch.zeros(refusal, dtype=torch.int64))

    @property
    def config(self) -> dict[str, Any]:
        """Where the boxes are, how far they are shrunk, what is said, and the sizes."""
        how = {"layers": self.layers, "require": self.require, "gamma": self.gamma, "says": self.says}
        boxes, _, key = self.center.shape
        return how | {"boxes": boxes, "key": key, "refusal": len(self.refusal)}

    def scores(self, asked: Tensor) -> Tensor:
        """The least gamma at which keys [B, layers, d_ff] are flagged: [B]."""
        size = max(1, ELEMENTS // max(1, asked.numel()))
        least = [
            self._over_layers(((asked[:, None] - center).abs() / reach).amax(-1)).amin(1)
            for center, reach in zip(self.center.split(size), self.reach.split(size), strict=True)
        ]
        return torch.stack(least).amin(0)

    def flagged(self, model: PreTrainedModel, input_ids: Tensor, prompt_end: Tensor) -> Tensor:
        """Whether each prompt's key is in a box shrunk by gamma [B]."""
        return self.scores(keys(model, self.layers, input_ids, prompt_end)) <= self.gamma

    def answer_logits(self, model: PreTrainedModel, input_ids: Tensor, positions: Tensor, prompt_end: Tensor) -> Tensor:
        """The model's own logits, and the refusal's for flagged prompts."""
        logits = answer_logits(model, input_ids, positions)
        flagged = self.flagged(model, input_ids, prompt_end)
        return refuse(logits, flagged, positions, prompt_end, self.refusal, self.says)

    def _over_layers(self, scores: Tensor) -> Tensor:
        """[B, N, layers] to [B, N]."""
        return scores.amin(-1) if self.require == "any" else scores.amax(-1)
