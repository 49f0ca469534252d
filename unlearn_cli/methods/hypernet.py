"""A hypernetwork that makes the factors of a fact's gradient into an edit of weights, and the weights so edited.

The gradient of a sentence's loss by a matrix W is a sum over tokens of outer products delta u', u the matrix's input at
a token and delta the loss's gradient by its output there. The hypernetwork maps each pair (u, delta) to another, so the
edit has no more rank than there are tokens, and a forward pass needs the factors only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unlearn_cli.errors import UnlearnError
from unlearn_cli.methods.loss import AnswerBatch
from unlearn_cli.methods.scope import parse_scope
from unlearn_cli.training.fit import answer_mask, read_answers
from unlearn_cli.worlds.language import Sentences

EPSILON = 1e-7  # added to standard deviations

Matrices = dict[str, torch.nn.Module]  # linear modules by name


@dataclass(frozen=True, eq=False)
class Factors:
    """What G edits have at the tokens of one matrix; a padded token is zero in both."""

    inputs: Tensor  # u [G, N, in]
    outputs: Tensor  # delta, or -lr times its like [G, N, out]

    @property
    def delta(self) -> Tensor:
        """The change of W that they add up to [G, out, in]."""
        return self.outputs.transpose(1, 2) @ self.inputs


def matrices(model: torch.nn.Module, scope: str) -> Matrices:
    """The linear modules of the blocks that are in scope; GPT-2's Conv1D stores its weight transposed."""
    belongs = parse_scope(scope)
    found = {
        name: module
        for name, module in model.named_modules()
        if (isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D") and belongs(name)
    }
    if not found:
        raise UnlearnError(f"method.scope: {scope} names no matrix of this model's blocks")
    return found


class Residual(torch.nn.Module):
    """x + up(down(x)), of low rank, with a scale and a shift for each matrix; the identity at first."""

    def __init__(self, size: int, rank: int, modes: int, last: bool) -> None:
        super().__init__()
        self.down = torch.nn.Parameter(torch.randn(size, min(rank, size)) / math.sqrt(size))
        self.up = torch.nn.Parameter(torch.zeros(min(rank, size), size))
        self.bias = torch.nn.Parameter(torch.zeros(size))
        self.scale = torch.nn.Parameter(torch.ones(modes, size))
        self.shift = torch.nn.Parameter(torch.zeros(modes, size))
        self.last = last

    def forward(self, x: Tensor, mode: int) -> Tensor:
        """Of matrix number `mode`."""
        change = self.scale[mode] * (x @ self.down @ self.up + self.bias) + self.shift[mode]
        return x + (change if self.last else change.clamp(min=0))  # at 0 relu has no gradient, and clamp has


class Moments(torch.nn.Module):
    """Mean and standard deviation of all tokens seen in training (Welford's update, a batch at a time)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.count: Tensor
        self.mean: Tensor
        self.squares: Tensor
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("squares", torch.zeros(size))

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """Normalise tokens [G, N, size]; while training, learn from the `real` ones first."""
        if self.training:
            self._learn(x[real].detach())
        spread = (self.squares / (self.count - 1).clamp_min(1)).sqrt()
        return (x - self.mean) / (spread + EPSILON)

    @torch.no_grad()
    def _learn(self, x: Tensor) -> None:
        if not len(x):
            return
        total, mean = self.count + len(x), x.mean(0)
        step = mean - self.mean
        self.squares += (x - mean).square().sum(0) + step.square() * self.count * len(x) / total
        self.mean += step * len(x) / total
        self.count.copy_(total)


class Hypernet(torch.nn.Module):
    """One network for all matrices of a shape; moments and an edit learning rate for each matrix."""

    def __init__(self, found: Matrices, rank: int, depth: int, edit_lr: float) -> None:
        super().__init__()
        shapes = [_shape(module) for module in found.values()]
        self.names, self.keys = list(found), [f"{out}x{into}" for out, into in shapes]
        self.modes = [self.keys[:place].count(key) for place, key in enumerate(self.keys)]
        self.nets = torch.nn.ModuleDict()
        for key, (out, into) in dict(zip(self.keys, shapes, strict=True)).items():
            layers = [Residual(out + into, rank, self.keys.count(key), place == depth) for place in range(depth + 1)]
            self.nets[key] = torch.nn.ModuleList(layers)
        self.input_moments = torch.nn.ModuleList(Moments(into) for _, into in shapes)
        self.output_moments = torch.nn.ModuleList(Moments(out) for out, _ in shapes)
        self.log_lr = torch.nn.Parameter(torch.full((len(shapes),), math.log(edit_lr)))

    def forward(self, factors: Mapping[str, Factors]) -> dict[str, Factors]:
        """The factors of -lr sum_t v~_t u~_t' for each matrix; tokens without gradient do not edit."""
        return {name: self._edit(place, factors[name]) for place, name in enumerate(self.names)}

    def _edit(self, place: int, raw: Factors) -> Factors:
        real = (raw.outputs != 0).any(-1)
        x = torch.cat(
            [self.input_moments[place](raw.inputs, real), self.output_moments[place](raw.outputs, real)], dim=-1
        )
        net: Any = self.nets[self.keys[place]]
        for layer in net:
            x = layer(x, self.modes[place])
        inputs, outputs = x.split([raw.inputs.shape[-1], raw.outputs.shape[-1]], dim=-1)
        return Factors(inputs * real[..., None], -self.log_lr[place].exp() * outputs * real[..., None])


@torch.enable_grad()
def read_factors(model: torch.nn.Module, found: Matrices, sentences: Sentences, groups: int) -> dict[str, Factors]:
    """The factors of the gradient of the summed NLL of the answers, equally many sentences to each of the groups."""
    weight = next(model.parameters())
    inputs: dict[str, Tensor] = {}
    probes: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: torch.nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
            inputs[name], probes[name] = given[0].detach(), torch.zeros_like(out, requires_grad=True)
            return out + probes[name]  # so that the gradient by the output is the probe's, whoever is frozen

        return hook

    hooks = [module.register_forward_hook(keep(name)) for name, module in found.items()]
    try:
        mask = answer_mask(sentences, weight.device)
        batch = AnswerBatch(*read_answers(model, sentences, weight.device), mask=mask)
    finally:
        for hook in hooks:
            hook.remove()
    gradients = torch.autograd.grad(-batch.counted(batch.logps).sum(), list(probes.values()))
    return {
        name: Factors(*(_grouped(x.to(weight.dtype), groups) for x in (inputs[name], gradient)))
        for name, gradient in zip(probes, gradients, strict=True)
    }


@contextmanager
def edited(found: Matrices, factors: Mapping[str, Factors]) -> Iterator[None]:
    """Run the modules with edited weights: rows of a batch come in as many equal groups as there are edits."""

    def patch(edit: Factors) -> Any:
        def hook(module: torch.nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
            x = _grouped(given[0], len(edit.inputs))
            return out + (x @ edit.inputs.transpose(1, 2) @ edit.outputs).view_as(out)

        return hook

    hooks = [module.register_forward_hook(patch(factors[name])) for name, module in found.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _grouped(x: Tensor, groups: int) -> Tensor:
    """Tokens [B, L, C] of equal groups of rows: [G, N, C]."""
    return x.reshape(groups, -1, x.shape[-1])


def _shape(module: torch.nn.Module) -> tuple[int, int]:
    weight: Any = module.weight
    first, second = weight.shape
    return (second, first) if type(module).__name__ == "Conv1D" else (first, second)
