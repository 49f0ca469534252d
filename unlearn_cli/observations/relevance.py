"""RelP: a gradient whose backward pass is that of layer-wise relevance propagation (Rezaei Jafari et al. 2025, arXiv
2508.21258).

The forward pass stays what it is. Backward, each of these counts as linear in its input:

norm        the scale is a constant; the mean that LayerNorm takes off is linear anyway
attention   the pattern is a constant: no gradient through queries and keys
activation  f(x) has slope f(x) / x
product     of a gated MLP: each factor gets half of the gradient

Then the inputs times their gradients, positions included, add up to the output, on a network without biases; biases
take a share that belongs to no input. Nothing is patched beyond the context: hooks, removed at its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import LayerNorm, Module

from unlearn_cli.methods.editing.network import blocks
from unlearn_cli.observations.base import Unobservable

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TINY = 1e-6  # below it f(x) / x is taken at this place, since it is 0 / 0 at 0
ACTIVATIONS = ("act", "act_fn")  # what an MLP calls it, in the architectures that are known

Rule = Callable[[Module, Tensor, Tensor], Tensor]  # module, input, output -> the same value, with another gradient


@contextmanager
def relp(model: PreTrainedModel) -> Iterator[None]:
    """Gradients taken of what is computed within are RelP's; Unobservable for an architecture that is not known."""
    hooks = [module.register_forward_hook(_hook(rule)) for module, rule in _rules(model)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _hook(rule: Rule) -> Any:
    def hook(module: Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
        linear = rule(module, given[0], out)
        return out.detach() + (linear - linear.detach())  # the value to the last bit

    return hook


def _rules(model: PreTrainedModel) -> list[tuple[Module, Rule]]:
    """Which modules are to count as linear, and how."""
    found: list[tuple[Module, Rule]] = []
    for module in model.modules():
        if isinstance(module, LayerNorm) or type(module).__name__.endswith("RMSNorm"):
            found.append((module, _norm))
    for block in blocks(model):
        inside = list(block.modules())
        attention = [pair for module in inside for pair in _attention(module)]
        mlp = [pair for module in inside for pair in _mlp(module)]
        if not attention or not mlp:
            raise Unobservable(f"relp knows GPT-NeoX, Llama and GPT-2 blocks, not {type(block).__name__}")
        found += attention + mlp
    return found


def _attention(module: Any) -> list[tuple[Module, Rule]]:
    """Cut queries and keys off, where `module` is the attention."""
    if hasattr(module, "query_key_value") and hasattr(module, "head_size"):  # GPT-NeoX: by heads
        return [(module.query_key_value, partial(_values_only, size=3 * module.head_size))]
    if hasattr(module, "c_attn") and hasattr(module, "embed_dim"):  # GPT-2: all queries, all keys, all values
        return [(module.c_attn, partial(_values_only, size=3 * module.embed_dim))]
    if hasattr(module, "q_proj") and hasattr(module, "k_proj"):
        return [(module.q_proj, _constant), (module.k_proj, _constant)]
    return []


def _mlp(module: Any) -> list[tuple[Module, Rule]]:
    """The activation, and where it is multiplied by a gate the two factors, where `module` is the MLP."""
    act = next((getattr(module, name) for name in ACTIVATIONS if hasattr(module, name)), None)
    if not isinstance(act, Module):
        return []
    if hasattr(module, "gate_proj") and hasattr(module, "up_proj"):
        return [(act, _half_activation), (module.up_proj, _half)]
    return [(act, _activation)]


def _norm(module: Any, given: Tensor, out: Tensor) -> Tensor:
    x = given.float()
    if isinstance(module, LayerNorm):
        x, epsilon = x - x.mean(-1, keepdim=True), module.eps
    else:
        epsilon = getattr(module, "variance_epsilon", None) or module.eps
    linear: Tensor = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon).detach()
    return (linear if module.weight is None else linear * module.weight).to(out.dtype)


def _values_only(module: Module, given: Tensor, out: Tensor, size: int) -> Tensor:
    packed = out.unflatten(-1, (-1, size))
    constant, value = packed[..., : size * 2 // 3], packed[..., size * 2 // 3 :]
    return torch.cat([constant.detach(), value], dim=-1).flatten(-2)


def _constant(module: Module, given: Tensor, out: Tensor) -> Tensor:
    return out.detach()


def _activation(module: Module, given: Tensor, out: Tensor) -> Tensor:
    safe = torch.where(given.abs() < TINY, TINY, given).detach()
    return given * (module.forward(safe) / safe).detach()


def _half(module: Module, given: Tensor, out: Tensor) -> Tensor:
    return out / 2


def _half_activation(module: Module, given: Tensor, out: Tensor) -> Tensor:
    return _activation(module, given, out) / 2
