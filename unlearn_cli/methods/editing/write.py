"""How a block adds what its MLP's second matrix puts out to the states: as it is, scaled, or through a norm.

Editors ask for a change of the states and solve for a change of the matrix. Most decoders add its output as it is;
Granite multiplies it; Gemma 2 and 3, OLMo 2 and 3, EXAONE 4 and GLM-4 norm it first. Which, is found out by trial and
not by name: where a block does something else, edits would fall short in silence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unlearn_cli.errors import UnlearnError
from unlearn_cli.methods.editing.network import blocks, only, output_of, states_of
from unlearn_cli.models.anatomy import centres, gain

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LARGE = 10.0  # times the states: a change that their rounding does not hide, in bfloat16 neither
TOLERANCE = 0.05  # relative
HALVINGS = 60  # of the interval that a Lagrange multiplier is in


@dataclass(frozen=True)
class Write:
    """A value [..., d] that the matrix puts out moves the states by `scale` times itself, normed if there is a norm."""

    scale: float = 1.0
    norm: Any = None

    def __call__(self, value: Tensor) -> Tensor:
        """What is added to the states."""
        return self.scale * (value if self.norm is None else self.norm(value))

    @torch.no_grad()
    def change(self, value: Tensor, wanted: Tensor) -> Tensor:
        """The change of values [n, d] that changes what is added by `wanted` [n, d].

        Behind a norm, where not everything can be added: values of the length they had that come nearest to it.
        """
        if self.norm is None:
            return wanted / self.scale
        zero = torch.zeros_like(value[0])
        gains, bias = gain(self.norm, zero).to(value), self.norm(zero).to(value)
        found = nearest(gains, self.norm(value).to(value) + wanted / self.scale - bias)
        middle = value.mean(-1, keepdim=True) if centres(self.norm, zero) else torch.zeros_like(value[:, :1])
        return middle + found * _rms(value - middle) - value


PLAIN = Write()


def nearest(gains: Tensor, wanted: Tensor) -> Tensor:
    """The u [n, d] of mean square 1 for which gains [d] * u is nearest to `wanted` [n, d].

    u = gains * wanted / (gains^2 + m) with a Lagrange multiplier m, 0 where `wanted` can be reached; u is the
    shorter the larger m is, which bisection finds.
    """
    pulled, square = gains * wanted, gains**2
    low = -square.min().expand_as(wanted[:, :1])
    high = _rms(pulled)  # as rms(u) <= rms(pulled) / m
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        long = _rms(pulled / (square + middle)) > 1
        low, high = torch.where(long, middle, low), torch.where(long, high, middle)
    found = pulled / (square + high)
    return found / _rms(found)


@torch.no_grad()
def write_of(model: PreTrainedModel, layer: int) -> Write:
    """How block `layer` writes, tried on one token; an UnlearnError where it is neither of the ways known here."""
    block = blocks(model)[layer]
    before = _try(model, block, None)
    if before is not None:
        ramp = torch.linspace(-1, 1, before.states.shape[-1]).to(before.states)
        after = _try(model, block, LARGE * before.states.norm() * ramp)
        assert after is not None
        for way in [PLAIN, *(Write(norm=reader) for reader in before.readers if _norms(reader, ramp))]:
            scale = _ratio(after.states - before.states, way(after.value) - way(before.value))
            if scale is not None:
                return Write(scale, way.norm)
    raise UnlearnError(
        f"edit: {type(block).__name__} neither adds to its states what its MLP's matrix puts out nor norms it first, "
        "and this method knows no third way; methods with a loss need not know"
    )


@dataclass(frozen=True, eq=False)
class _Trial:
    """One token's way through a block."""

    states: Tensor  # [d] that the block puts out
    value: Tensor  # [d] that the matrix puts out
    readers: list[Any]  # modules that read the value


def _try(model: PreTrainedModel, block: torch.nn.Module, change: Tensor | None) -> _Trial | None:
    """Run the block alone, its matrix putting out so much more; None if it does not use its matrix."""
    states: list[Tensor] = []
    value: list[Tensor] = []
    readers: list[Any] = []

    def add(module: Any, inputs: Any, out: Tensor) -> Tensor:
        value.append(out if change is None else out + change)
        return value[-1]

    def look(module: Any, inputs: Any, out: Any) -> None:
        if value and inputs and inputs[0] is value[-1]:
            readers.append(module)

    matrix = output_of(block)
    hooks = [module.register_forward_hook(look) for module in block.modules() if module is not matrix]
    hooks += [matrix.register_forward_hook(add)]
    hooks += [block.register_forward_hook(lambda module, inputs, out: states.append(states_of(out)))]
    embeddings: Any = model.get_input_embeddings()
    token = torch.ones(1, 1, embeddings.weight.shape[1], dtype=model.dtype, device=model.device)
    try:
        with only(model, [block]) as body:
            body(inputs_embeds=token, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return _Trial(states[-1].flatten(), value[-1].flatten(), readers) if value else None


def _norms(module: Any, value: Tensor) -> bool:
    """Whether it makes the same of a value [d] and of one ten times as long."""
    try:
        return _ratio(module(value), module(10 * value)) == 1.0
    except (RuntimeError, TypeError):  # a module that takes something else
        return False


def _ratio(moved: Tensor, change: Tensor) -> float | None:
    """The number by which `change` [d] gives `moved` [d], if there is one."""
    moved, change = moved.double(), change.double()
    scale = float(moved @ change / (change @ change))
    if not torch.linalg.vector_norm(moved - scale * change) < TOLERANCE * torch.linalg.vector_norm(moved):
        return None
    return 1.0 if abs(scale - 1) < TOLERANCE else scale


def _rms(x: Tensor) -> Tensor:
    return x.square().mean(-1, keepdim=True).sqrt()
