"""The residual stream of a decoder: what stands in it after the embedding and after each block, and its decoding.

States are those before the final norm, in the last block too: `output_hidden_states[-1]` of transformers is normed.
The pass is the model's own, since the shortcut of models/forward.py calls the parts of a block and fires no hook on
it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unlearn_cli.methods.editing.network import at, blocks
from unlearn_cli.observations.base import Unobservable

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FINAL_NORMS = ("final_layer_norm", "norm", "ln_f")  # in the architectures that are known

Change = Callable[[Tensor], Tensor]  # a block's output [B, L, d] to what replaces it


@torch.no_grad()
def streams(model: PreTrainedModel, ids: Tensor) -> list[Tensor]:
    """The stream [B, L, d] of rows [B, L] after the embedding, then after every block."""
    found: list[Tensor] = []
    every = blocks(model)

    def enters(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.append(args[0] if args else kwargs["hidden_states"])

    hooks = [every[0].register_forward_pre_hook(enters, with_kwargs=True)]
    hooks += [block.register_forward_hook(lambda _, __, out: found.append(_states(out))) for block in every]
    try:
        model.base_model(input_ids=ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def logits_at(model: PreTrainedModel, ids: Tensor, read: Tensor, changes: Mapping[int, Change]) -> Tensor:
    """Logits [B, P, V] at `read` [B, P] while the outputs of some blocks (from 0) are changed."""
    with changed(model, changes):
        out = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    head: Any = model.get_output_embeddings()
    logits: Tensor = head(at(out, read))
    return logits


@contextmanager
def changed(model: PreTrainedModel, changes: Mapping[int, Change]) -> Iterator[None]:
    """Replace the outputs of some blocks, by number from 0, while the context lasts."""
    every = blocks(model)
    hooks = [every[layer].register_forward_hook(_replacing(change)) for layer, change in changes.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def final_norm(model: PreTrainedModel) -> tuple[str, Any]:
    """The norm between the last block and the output layer, and its name in the body; Unobservable without one."""
    for name, child in model.base_model.named_children():
        if name in FINAL_NORMS:
            return name, child
    raise Unobservable(f"found no final norm ({', '.join(FINAL_NORMS)}) in {type(model).__name__}")


def take_decoder(model: PreTrainedModel, other: PreTrainedModel) -> None:
    """Give `model` the final norm and the output layer of `other`."""
    name, _ = final_norm(model)
    setattr(model.base_model, name, final_norm(other)[1])
    model.set_output_embeddings(other.get_output_embeddings())


def _replacing(change: Change) -> Any:
    def hook(module: Any, args: Any, out: Any) -> Any:
        return (change(out[0]), *out[1:]) if isinstance(out, tuple) else change(out)

    return hook


def _states(out: Any) -> Tensor:
    """A block's hidden states: its output, or the first of its outputs."""
    states: Tensor = out[0] if isinstance(out, tuple) else out
    return states
