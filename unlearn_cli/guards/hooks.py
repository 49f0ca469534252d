"""Reading and rewriting what a model's modules put out, by hooks that are gone when the call is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unlearn_cli.methods.editing.network import at, blocks, in_rows, output_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Hook = Callable[[Tensor, Tensor], Tensor | None]  # a module's input and output to what replaces the output, or None


@contextmanager
def hooked(hooks: Sequence[tuple[torch.nn.Module, Hook]]) -> Iterator[None]:
    """Have `hooks` on their modules while the context lasts, whatever happens inside."""
    handles = []
    try:
        for module, hook in hooks:
            handles.append(module.register_forward_hook(_as_torch_calls_it(hook)))
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def keys(model: PreTrainedModel, layers: Sequence[int], input_ids: Tensor, positions: Tensor) -> Tensor:
    """What the MLP's second matrix reads in blocks `layers` (from 0) at `positions` [B]: [B, layers, d_ff]."""
    found: dict[int, Tensor] = {}

    def read_of(layer: int, read: Tensor) -> None:
        places = positions[:, None].to(read.device)
        found[layer] = at(in_rows(read, len(input_ids)), places).to(positions.device)

    def keep(layer: int) -> Hook:
        return lambda read, _: read_of(layer, read)

    with hooked([(output_of(blocks(model)[layer]), keep(layer)) for layer in layers]):
        model.base_model(input_ids=input_ids[:, : int(positions.max()) + 1], use_cache=False)
    return torch.cat([found[layer] for layer in layers], dim=1)


def _as_torch_calls_it(hook: Hook) -> Any:
    return lambda module, inputs, out: hook(inputs[0], out)
