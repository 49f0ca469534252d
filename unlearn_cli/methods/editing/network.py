"""The parts of a decoder that editors reach for: its blocks, the second matrix of an MLP, the blocks above one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unlearn_cli.errors import UnlearnError
from unlearn_cli.models.anatomy import OUTPUTS, mlp_matrix, stack
from unlearn_cli.models.forward import logits_at

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ALONE: dict[type, bool] = {}  # by the blocks' class


def blocks(model: PreTrainedModel) -> list[torch.nn.Module]:
    """The decoder's blocks, the first one first."""
    body, name = _stack(model)
    return list(getattr(body, name))


def numbers(model: PreTrainedModel, layers: Sequence[int]) -> list[int]:
    """Block numbers in ascending order, negative ones counted from the end; UnlearnError for one that is not there."""
    count = len(blocks(model))
    wrong = [layer for layer in layers if not -count <= layer < count]
    if wrong:
        raise UnlearnError(f"edit: there is no block {wrong[0]}; this model has {count}, 0 to {count - 1}")
    return sorted({layer % count for layer in layers})


def output_of(block: torch.nn.Module) -> torch.nn.Module:
    """The module of a block that holds the MLP's second matrix."""
    found = mlp_matrix(block, OUTPUTS)
    if found is None:
        raise UnlearnError(f"edit: no MLP output matrix ({', '.join(OUTPUTS)}) in {type(block).__name__}")
    return found


def matrix(module: torch.nn.Module) -> Tensor:
    """W [out, in] of a linear module, a view on its weight; GPT-2 stores it transposed."""
    weight: Any = module.weight
    return weight.data.T if type(module).__name__ == "Conv1D" else weight.data


@contextmanager
def only(model: PreTrainedModel, chosen: Sequence[torch.nn.Module]) -> Iterator[Any]:
    """The body of `model` while it consists of these blocks alone."""
    holder, name = _stack(model)
    whole = getattr(holder, name)
    setattr(holder, name, torch.nn.ModuleList(chosen))
    try:
        yield model.base_model
    finally:
        setattr(holder, name, whole)


class Given(torch.nn.Module):
    """Stands for a block: whatever goes in, `hidden` comes out, in the tuple that some architectures put it in."""

    def __init__(self, hidden: Tensor, alone: bool) -> None:
        super().__init__()
        self.hidden, self.alone = hidden, alone

    def forward(self, *ignored: Any, **named: Any) -> Any:
        """The given states."""
        return self.hidden if self.alone else (self.hidden, None)


def logits_above(model: PreTrainedModel, layer: int, ids: Tensor, hidden: Tensor, read: Tensor) -> Tensor:
    """Logits [B, T, V] at `read` [B, T] when block `layer` put out `hidden` [B, L, d]; blocks below are not run."""
    above = blocks(model)[layer + 1 :]
    if not above:
        ids, hidden = ids[:, : read.shape[1]], at(hidden, read)
    below = Given(hidden, _alone(model))
    with only(model, [*[below] * (layer + 1), *above]):  # a block's place may decide its kind of attention
        return logits_at(model, read if above else every_place(read), input_ids=ids)


def every_place(read: Tensor) -> Tensor:
    """Places 0, 1, ... of rows that hold the states of `read` [B, T] alone."""
    return torch.arange(read.shape[1], device=read.device).expand_as(read)


def at(x: Tensor, positions: Tensor) -> Tensor:
    """Rows `positions` [B, P] of x [B, L, C]: [B, P, C]."""
    return x.gather(1, positions[..., None].expand(-1, -1, x.shape[-1]))


def in_rows(x: Tensor, rows: int) -> Tensor:
    """What a module of a block reads or puts out [B, L, C]; OPT's MLP has the tokens of all rows in one dimension."""
    return x if x.ndim == 3 else x.view(rows, -1, x.shape[-1])


def states_of(out: Any) -> Tensor:
    """The states [B, L, d] in what a block puts out."""
    found: Tensor = out[0] if isinstance(out, tuple) else out
    return found


def _stack(model: PreTrainedModel) -> tuple[Any, str]:
    """The module that holds the list of blocks, and its name there."""
    try:
        return stack(model)
    except LookupError as error:
        raise UnlearnError(f"edit: {error}") from None


@torch.no_grad()
def _alone(model: PreTrainedModel) -> bool:
    """Whether blocks put out their states alone, not in a tuple; tried on one token."""
    first = blocks(model)[0]
    if type(first) not in _ALONE:
        hook = first.register_forward_hook(
            lambda module, _, out: _ALONE.__setitem__(type(module), not isinstance(out, tuple))
        )
        try:
            model.base_model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=model.device), use_cache=False)
        finally:
            hook.remove()
    return _ALONE[type(first)]
