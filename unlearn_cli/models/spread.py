"""A model whose blocks may lie on several devices of one process: `model.device_map=auto`.

Blocks go in order, in parts of about equal bytes. All that stands outside them (embeddings, final norm, output layer)
lies on the first device, so that tied weights stay one tensor. States come back there behind each block: whoever reads
or changes what a block puts out, or asks for logits, need not know where the block is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unlearn_cli.errors import UnlearnError
from unlearn_cli.models.anatomy import stack, unwrapped

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def spread(model: Any, devices: Sequence[Any]) -> Any:
    """Move `model`, in PEFT's wrapper or not, to its device, or block by block to several; returns it."""
    if len(devices) == 1:
        return torch.nn.Module.to(model, devices[0])
    inner = unwrapped(model)
    blocks = blocks_of(inner)
    inside = {id(part) for block in blocks for part in block.modules()}
    for module in model.modules():
        if id(module) not in inside:
            module._apply(_to(devices[0]), recurse=False)
    for block, device in zip(blocks, parts(inner, blocks, devices), strict=True):
        block._apply(_to(device))
    if not is_spread(inner):
        for block in blocks:
            block.register_forward_pre_hook(_arrive, with_kwargs=True)
            block.register_forward_hook(_return)
        inner.is_spread = True
    return model


def is_spread(model: Any) -> bool:
    """Whether its blocks move what they read to where they are."""
    return bool(getattr(model, "is_spread", False))


def blocks_of(model: PreTrainedModel) -> list[torch.nn.Module]:
    """Its blocks in order; an UnlearnError for an architecture where they are not found."""
    try:
        body, name = stack(model)
    except LookupError as error:
        raise UnlearnError(f"model.device_map: auto cannot divide this model ({error}); set none") from None
    return list(getattr(body, name))


def parts(model: torch.nn.Module, blocks: Sequence[torch.nn.Module], devices: Sequence[Any]) -> list[Any]:
    """The device of each block: that in whose share of all bytes the block's middle lies, the rest counted first."""
    sizes = [_bytes(block) for block in blocks]
    total = _bytes(model)
    before, found = total - sum(sizes), []
    for size in sizes:
        found.append(devices[int(len(devices) * (before + size / 2) / total)])
        before += size
    return found


def _bytes(module: torch.nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in module.parameters())


def _to(device: Any) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor.to(device)


def _arrive(block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """Bring what a block reads to where its weights are now, and note where it came from."""
    states = args[0] if args else kwargs["hidden_states"]
    block.came_from, here = states.device, next(block.parameters()).device
    return _on(here, args), _on(here, kwargs)


def _return(block: Any, args: Any, out: Any) -> Any:
    """Bring what it puts out back."""
    return _on(block.came_from, out)


def _on(device: torch.device, value: Any) -> Any:
    """Tensors on the device; objects, such as a cache that the block writes to, as they are."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {name: _on(device, own) for name, own in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_on(device, own) for own in value)
    return value
