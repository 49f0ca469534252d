"""Models with something put into their computation: a direction in the stream, or embeddings before the prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unlearn_cli.guards.base import Guard
from unlearn_cli.methods.editing.network import at
from unlearn_cli.models import forward
from unlearn_cli.observations.residual import logits_at

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Pushed(Guard):
    """The model with `vector` [d] added to the stream behind block `layer`, at the positions that are read."""

    def __init__(self, layer: int, vector: Tensor) -> None:
        super().__init__()
        self.layer, self.vector = layer, vector

    @property
    def config(self) -> dict[str, Any]:
        """The block."""
        return {"layer": self.layer}

    def moved(self, states: Tensor) -> Tensor:
        """States [..., d] with the vector added."""
        return states + self.vector

    def answer_logits(self, model: PreTrainedModel, input_ids: Tensor, positions: Tensor, prompt_end: Tensor) -> Tensor:
        """Logits of the plain forward pass with the stream changed."""

        def change(out: Tensor) -> Tensor:
            index = positions[..., None].expand(-1, -1, out.shape[-1])
            return out.scatter(1, index, self.moved(at(out, positions)))

        return logits_at(model, input_ids, positions, {self.layer: change})


class Projected(Pushed):
    """The model without the component of the stream along `vector` behind block `layer`."""

    def moved(self, states: Tensor) -> Tensor:
        """h - (h . u) u with u the direction of the vector; h where the vector is 0."""
        unit = self.vector / self.vector.norm().clamp(min=1e-12)
        return states - (states @ unit)[..., None] * unit


class SoftPrompt(Guard):
    """The model behind embeddings [k, d] that stand before every prompt and need not be those of any token."""

    def __init__(self, embeddings: Tensor) -> None:
        super().__init__()
        self.embeddings = embeddings

    @property
    def config(self) -> dict[str, Any]:
        """Its length."""
        return {"tokens": len(self.embeddings)}

    def answer_logits(self, model: PreTrainedModel, input_ids: Tensor, positions: Tensor, prompt_end: Tensor) -> Tensor:
        """Logits at the same tokens, which stand later."""
        embed: Any = model.get_input_embeddings()
        before = self.embeddings.expand(len(input_ids), -1, -1)
        rows = torch.cat([before, embed(input_ids[:, : int(positions.max()) + 1])], dim=1)
        return forward.logits_at(model, positions + len(self.embeddings), inputs_embeds=rows)
