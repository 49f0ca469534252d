"""Scores of input tokens: how strongly a difference of logits depends on them, how present they are in the stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unlearn_cli.methods.editing.network import at
from unlearn_cli.observations.residual import final_norm, streams

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Gap = tuple[int, int]  # token ids; the logit of the first less that of the second


@torch.no_grad()
def gaps(model: PreTrainedModel, ids: Tensor, read: Tensor, gap: Gap) -> Tensor:
    """The difference of logits [B] behind position `read` [B] of rows [B, L]."""
    return _gaps(model(input_ids=ids, use_cache=False).logits, read, gap)


def gradients(model: PreTrainedModel, ids: Tensor, read: Tensor, gap: Gap) -> tuple[Tensor, Tensor]:
    """The difference of logits [B] and its gradient [B, L, d] with respect to the token embeddings."""
    embed: Any = model.get_input_embeddings()
    inputs = embed(ids).detach().requires_grad_()
    with torch.enable_grad():
        found = _gaps(model(inputs_embeds=inputs, use_cache=False).logits, read, gap)
        (gradient,) = torch.autograd.grad(found.sum(), inputs)
    return found.detach(), gradient


@torch.no_grad()
def lens_logits(model: PreTrainedModel, ids: Tensor, read: Tensor, tokens: Tensor) -> Tensor:
    """Logits [B, T] of `tokens` [B, T] decoded from the stream at `read` [B], mean over the outputs of all blocks."""
    (_, norm), head = final_norm(model), model.get_output_embeddings()
    assert head is not None
    layers = [head(norm(at(stream, read[:, None])))[:, 0].gather(1, tokens) for stream in streams(model, ids)[1:]]
    return torch.stack(layers).mean(0).float()


def _gaps(logits: Tensor, read: Tensor, gap: Gap) -> Tensor:
    last = at(logits, read[:, None])[:, 0].float()
    return last[:, gap[0]] - last[:, gap[1]]
