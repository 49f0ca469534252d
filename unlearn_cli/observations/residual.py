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

from unlearn_cli.methods.editing.network import blocks, states_of
from unlearn_cli.models import forward
from unlearn_cli.models.anatomy import FINAL_NORMS, block_of
from unlearn_cli.observations.base import Unobservable

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Change = Callable[[Tensor], Tensor]  # a block's output [B, L, d] to what replaces it


@torch.no_grad()
def streams(model: PreTrainedModel, ids: Tensor) -> list[Tensor]:
    """The stream [B, L, d] of rows [B, L] after the embedding, then after every block."""
    found: list[Tensor] = []
    every = blocks(model)

    def enters(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.append(args[0] if args else kwargs["hidden_states"])

    hooks = [every[0].register_forward_pre_hook(enters, with_kwargs=True)]
    hooks += [block.register_forward_hook(lambda _, __, out: found.append(states_of(out))) for block in every]
    try:
        model.base_model(input_ids=ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def logits_at(model: PreTrainedModel, ids: Tensor, read: Tensor, changes: Mapping[int, Change]) -> Tensor:
    """Logits [B, P, V] at `read` [B, P] while the outputs of some blocks (from 0) are changed."""
    with changed(model, changes):
        return forward.logits_at(model, read, input_ids=ids)


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
    """The norm before the output layer, and its dotted name in the body; Unobservable without one."""
    named = [pair for pair in model.base_model.named_modules() if block_of(pair[0]) is None]
    found = [(name, child) for name, child in named if name.rpartition(".")[2] in FINAL_NORMS]
    if not found:
        raise Unobservable(f"found no final norm ({', '.join(FINAL_NORMS)}) in {type(model).__name__}")
    return found[-1]  # one of the embeddings would stand before it


def take_decoder(model: PreTrainedModel, other: PreTrainedModel) -> None:
    """Give `model` the final norm and the output layer of `other`."""
    name, _ = final_norm(model)
    model.base_model.set_submodule(name, final_norm(other)[1])
    model.set_output_embeddings(other.get_output_embeddings())


def _replacing(change: Change) -> Any:
    def hook(module: Any, args: Any, out: Any) -> Any:
        return (change(out[0]), *out[1:]) if isinstance(out, tuple) else change(out)

    return hook
