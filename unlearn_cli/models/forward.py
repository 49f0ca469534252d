"""Logits at chosen positions, by the cheapest exact way.

Facts are read at the few positions that predict an object. For GPT-NeoX the last block then needs keys and
values everywhere but queries, MLP and output layer only there, which saves about half of a two-layer model.
Rows are padded on the right, where no position that is read looks, so that no attention mask is needed.
The same modules are called, so adapters and hooks on them stay in force; other architectures take the plain forward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearn_cli.guards.base import Guarded
from unlearn_cli.models.anatomy import unwrapped
from unlearn_cli.models.spread import is_spread

PASS_BYTES = 2**31  # of a pass without gradients


def answer_logits(
    model: torch.nn.Module, input_ids: Tensor, positions: Tensor, prompt_end: Tensor | None = None
) -> Tensor:
    """Return next-token logits [B, P, V] of rows [B, L] at `positions`, ascending: [P] for every row, or [B, P].

    `prompt_end` [B] is where each prompt ends, by default the first position; only a guarded model asks for it.
    """
    if isinstance(model, Guarded):
        each = positions.expand(len(input_ids), -1)
        return model.answer_logits(input_ids, each, each[:, 0] if prompt_end is None else prompt_end)
    if positions.ndim == 2 and bool((positions == positions[:1]).all()):
        positions = positions[0]
    inner = unwrapped(model)
    if has_shortcut(inner) and inner.config._attn_implementation == "sdpa":
        return _neox_logits(inner, input_ids[:, : int(positions.max()) + 1], positions)
    if positions.ndim == 1:
        return model(input_ids=input_ids, logits_to_keep=positions, use_cache=False).logits
    return logits_at(model, positions, input_ids=input_ids)


def logits_at(model: torch.nn.Module, positions: Tensor, **inputs: Tensor) -> Tensor:
    """Logits [B, P, V] at `positions` [B, P] by the model's own forward, with whatever it does to them at the end."""
    kept, place = positions.unique(return_inverse=True)
    return _rows_at(model(**inputs, logits_to_keep=kept, use_cache=False).logits, place)


def has_shortcut(model: Any) -> bool:
    """Whether a model's blocks may be taken apart: not those that move what they read to another device."""
    return type(model).__name__ == "GPTNeoXForCausalLM" and not is_spread(model)


def _neox_logits(model: Any, input_ids: Tensor, positions: Tensor) -> Tensor:
    body = model.gpt_neox
    hidden = body.emb_dropout(body.embed_in(input_ids))
    every = torch.arange(input_ids.shape[1], device=input_ids.device)
    cos, sin = body.rotary_emb(hidden, position_ids=every[None])
    last = len(body.layers) - 1
    for number, layer in enumerate(body.layers):
        step = _again_backward(layer) if layer.gradient_checkpointing and layer.training else _neox_layer
        hidden = step(layer, hidden, cos, sin, positions if number == last else every)
    return model.lm_head(body.final_layer_norm(hidden))


def rows_at_once(model: torch.nn.Module, tokens: int, answer: int, most: int) -> int:
    """How many rows of so many tokens a pass without gradients may read: `most`, or fewer to keep within 2 GiB."""
    apart = has_shortcut(unwrapped(model))  # others: logits wherever any row has an answer
    return max(1, min(most, PASS_BYTES // row_bytes(model, tokens, answer if apart else tokens)))


def row_bytes(model: torch.nn.Module, tokens: int, places: int) -> int:
    """What a row of so many tokens, with logits at so many places, takes in a pass without gradients, roughly."""
    config = unwrapped(model).config.get_text_config()
    return 4 * int(tokens * 24 * config.hidden_size + 2 * places * config.vocab_size)


def _again_backward(layer: Any) -> Any:
    """`_neox_layer`, whose activations are computed again in the backward pass instead of being kept."""
    return lambda *given: layer._gradient_checkpointing_func(_neox_layer, *given)


def _neox_layer(layer: Any, hidden: Tensor, cos: Tensor, sin: Tensor, positions: Tensor) -> Tensor:
    """One block; its output has only the rows of `positions`."""
    every = positions.ndim == 1 and len(positions) == hidden.shape[1]
    attention = layer.attention
    query, key, value = _heads(attention, layer.input_layernorm(hidden))
    key = _rotate(key, cos, sin)
    if positions.ndim == 1:
        query = query if every else query[:, :, positions]
        query = _rotate(query, cos[:, positions], sin[:, positions])
    else:
        query = query.gather(2, positions[:, None, :, None].expand(-1, query.shape[1], -1, query.shape[-1]))
        query = _rotate(query, cos[0][positions], sin[0][positions])
    mask = None if every else torch.arange(key.shape[2], device=key.device) <= positions[..., None]
    if mask is not None and bool(mask.all()):
        mask = None  # the last position alone sees every key: the fast path
    elif mask is not None and mask.ndim == 3:
        mask = mask[:, None]
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=every, scale=attention.scaling)
    mixed = mixed.transpose(1, 2).flatten(2)
    attended = layer.post_attention_dropout(attention.dense(mixed))
    residual = hidden if every else _rows_at(hidden, positions)
    if layer.use_parallel_residual:
        return residual + attended + layer.post_mlp_dropout(layer.mlp(layer.post_attention_layernorm(residual)))
    attended = residual + attended
    return attended + layer.post_mlp_dropout(layer.mlp(layer.post_attention_layernorm(attended)))


def _rows_at(x: Tensor, positions: Tensor) -> Tensor:
    """Columns `positions`, [P] or [B, P], of x [B, L, C]: [B, P, C]."""
    if positions.ndim == 1:
        return x[:, positions]
    return x.gather(1, positions[..., None].expand(-1, -1, x.shape[-1]))


def _heads(attention: Any, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys, values, each [B, heads, L, head size]."""
    packed = attention.query_key_value(hidden).view(*hidden.shape[:-1], -1, 3 * attention.head_size)
    query, key, value = packed.transpose(1, 2).chunk(3, dim=-1)
    return query, key, value


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of the first cos.shape[-1] dimensions; x [B, heads, P, head size], cos and sin [1, P, R]."""
    size = cos.shape[-1]
    turned, plain = x[..., :size], x[..., size:]
    half = torch.cat((-turned[..., size // 2 :], turned[..., : size // 2]), dim=-1)
    return torch.cat((turned * cos[:, None] + half * sin[:, None], plain), dim=-1)
