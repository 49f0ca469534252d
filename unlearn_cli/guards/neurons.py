"""Neurons shifted and reflected: from where they are on forget texts to where they are on retain texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unlearn_cli.errors import UnlearnError
from unlearn_cli.guards.base import Guard
from unlearn_cli.guards.hooks import Hook, hooked
from unlearn_cli.methods.editing.network import at, blocks, in_rows
from unlearn_cli.models.anatomy import INPUTS, mlp_matrix
from unlearn_cli.models.forward import answer_logits

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BITS = 2**32 - 1


class AdjustedNeurons(Guard):
    """Some hidden units of MLPs, each with a normal distribution of its pre-activation on either kind of text."""

    layer: Tensor  # [M] block of each neuron
    unit: Tensor  # [M] its place in the MLP
    forget_mean: Tensor  # [M]
    forget_std: Tensor
    retain_mean: Tensor
    retain_std: Tensor

    def __init__(self, neurons: int, deterministic: bool, seed: int) -> None:
        super().__init__()
        self.deterministic, self.seed = deterministic, seed
        for name in ("layer", "unit"):
            self.register_buffer(name, torch.zeros(neurons, dtype=torch.int64))
        for name in ("forget_mean", "forget_std", "retain_mean", "retain_std"):
            self.register_buffer(name, torch.ones(neurons))

    @property
    def config(self) -> dict[str, Any]:
        """How many neurons there are, and how chance decides."""
        return {"neurons": len(self.unit), "deterministic": self.deterministic, "seed": self.seed}

    def adjusted(self, x: Tensor, chance: Tensor, members: Tensor) -> Tensor:
        """Pre-activations [B, L, m] of the neurons `members` [m], by draws [B, L, m] from [0, 1)."""
        f, r = self.forget_mean[members], self.retain_mean[members]
        f_std, r_std = self.forget_std[members], self.retain_std[members]
        of_forget = torch.sigmoid(_log_density(x, f, f_std) - _log_density(x, r, r_std))  # N_f / (N_f + N_r)
        moves = (of_forget >= 0.5) & (chance < of_forget)
        return torch.where(moves, r - r_std * (x - f) / f_std, x)

    def answer_logits(self, model: PreTrainedModel, input_ids: Tensor, positions: Tensor, prompt_end: Tensor) -> Tensor:
        """The model's own logits where nothing moved up to the position that is read."""
        logits = answer_logits(model, input_ids, positions)
        if not len(self.unit):
            return logits
        input_ids = input_ids[:, : int(positions.max()) + 1]
        moved = torch.zeros(input_ids.shape, dtype=torch.bool, device=input_ids.device)
        texts, hooks = prefixes(input_ids), list[tuple[torch.nn.Module, Hook]]()
        for layer in self.layer.unique().tolist():
            members = (self.layer == layer).nonzero()[:, 0]
            hooks.append((input_of(blocks(model)[layer]), self._hook(members, self._draws(texts, members), moved)))
        with hooked(hooks):
            rewritten = at(model(input_ids=input_ids, use_cache=False).logits, positions)
        so_far = moved.int().cummax(1).values.gather(1, positions) > 0
        return torch.where(so_far[..., None], rewritten, logits)

    def _hook(self, members: Tensor, chance: Tensor, moved: Tensor) -> Hook:
        units = self.unit[members]

        def rewrite(_: Tensor, out: Tensor) -> Tensor:
            changed = in_rows(out, len(moved)).clone()
            before = changed[..., units]
            after = self.adjusted(before, chance, members)
            moved.logical_or_((after != before).any(-1))
            changed[..., units] = after
            return changed.view_as(out)

        return rewrite

    def _draws(self, texts: Tensor, members: Tensor) -> Tensor:
        """Uniform on [0, 1) for each text so far [B, L] and neuron: [B, L, m]; 0 if chance is to decide nothing."""
        if self.deterministic:
            return torch.zeros(*texts.shape, len(members), device=texts.device)
        each = _mixed(_mixed(self.layer[members] + self.seed) ^ self.unit[members])
        return _mixed(texts[..., None] ^ each).double() / (BITS + 1)


def input_of(block: torch.nn.Module) -> torch.nn.Module:
    """The module of a block that puts out the MLP's pre-activations."""
    found = mlp_matrix(block, INPUTS)
    if found is None:
        raise UnlearnError(f"edit: no MLP input matrix ({', '.join(INPUTS)}) in {type(block).__name__}")
    return found


def prefixes(input_ids: Tensor) -> Tensor:
    """A number of 32 bits for the tokens up to each place [B, L], so that draws depend on nothing else in a batch."""
    state, states = torch.zeros_like(input_ids[:, 0]), list[Tensor]()
    for column in input_ids.T:
        state = _mixed((state * 31 + column + 1) & BITS)
        states.append(state)
    return torch.stack(states, 1)


def _mixed(x: Tensor) -> Tensor:
    """An integer hash of 32 bits, a bijection; products stay within 63 bits."""
    for _ in range(2):
        x = ((x >> 16 ^ x) * 0x45D9F3B) & BITS
    return x >> 16 ^ x


def _log_density(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Of a normal distribution, without the constant."""
    return -std.log() - ((x - mean) / std).square() / 2
