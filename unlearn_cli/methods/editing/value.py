"""The change of a value that makes the model answer the targets (Meng et al. 2022, arXiv 2202.05262, eq. 4).

For each fact: mean over contexts and target tokens of -log P(target), plus kl * KL(edited || base) where the subject's
other relations are asked, plus weight_decay * |delta| / |v0|^2, minimised by Adam, delta projected to |delta| <=
clamp * |v0| after each step. As in the authors' code the KL is taken from the edited model to the base (the paper has
it the other way round) and the decay is not squared. The code asks "<subject> is a" there; these languages have no such
sentence. Facts are optimised side by side, which is the same as one by one: nothing couples them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unlearn_cli.methods.editing.editor import Value
from unlearn_cli.methods.editing.network import logits_above
from unlearn_cli.methods.editing.prompts import Prompts
from unlearn_cli.methods.editing.write import PLAIN, Write

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, eq=False)
class Asked:
    """Prompts of F facts, and what the edited block puts out on them."""

    rows: Prompts
    owner: Tensor  # [B] whose each row is, 0 to F - 1
    hidden: Tensor  # [B, L, d]
    write: Write = PLAIN
    values: Tensor | None = None  # [B, S, d] that the matrix puts out at the sites, if a norm stands behind it

    @property
    def beside(self) -> Tensor:
        """How many rows there are of each row's fact [B]."""
        return torch.bincount(self.owner)[self.owner]

    def moved(self, delta: Tensor) -> Tensor:
        """The block's output with delta [F, S, d] added at the sites, or to the values where there is a norm."""
        change = self._change(delta)
        if self.rows.sites_mask is not None:
            change = change * self.rows.sites_mask[..., None]
        places = self.rows.sites[..., None].expand(-1, -1, change.shape[-1])
        return self.hidden.scatter_add(1, places, change)

    def effect(self, delta: Tensor) -> Tensor:
        """What delta [F, S, d] does to the block's output, a mean over equally many contexts [F, S, d]."""
        return delta if self.values is None else self._change(delta).unflatten(0, (len(delta), -1)).mean(1)

    def _change(self, delta: Tensor) -> Tensor:
        """What delta [F, S, d] does to the block's output at the sites [B, S, d]."""
        each = delta[self.owner, : self.rows.sites.shape[1]]
        return each if self.values is None else self.write(self.values + each) - self.write(self.values)


@dataclass(frozen=True, eq=False)
class Found:
    """The outcome of a search."""

    delta: Tensor  # [F, S, d]
    loss: Tensor  # [F] at the last look
    steps: int


def find(model: PreTrainedModel, layer: int, facts: Asked, neighbours: Asked | None, v0: Tensor, how: Value) -> Found:
    """Search delta for each of F facts; `neighbours` ask what is to stay, `v0` [F, S, d] are the values so far."""
    norm = torch.linalg.vector_norm(v0, dim=-1, keepdim=True)
    delta = torch.zeros_like(v0, requires_grad=True)
    adam = torch.optim.Adam([delta], lr=how.lr)
    base = None if neighbours is None else _logps(model, layer, neighbours, delta.detach())
    done = torch.zeros(len(v0), dtype=torch.bool, device=v0.device)
    for step in range(how.steps + 1):
        answers = _logps(model, layer, facts, delta).gather(-1, facts.rows.answers[..., None])[..., 0]
        loss = -_means(answers, facts.rows.mask, len(v0))
        loss = loss + how.weight_decay * (torch.linalg.vector_norm(delta, dim=-1) / norm[..., 0] ** 2).sum(1)
        if neighbours is not None and base is not None:
            now = _logps(model, layer, neighbours, delta)
            drift = (now.exp() * (now - base)).sum(-1).mean(-1) / neighbours.beside
            loss = loss + how.kl * torch.zeros_like(loss).index_add(0, neighbours.owner, drift)
        done |= loss.detach() < how.stop_loss
        if step == how.steps or bool(done.all()):
            break
        (gradient,) = torch.autograd.grad(loss.sum(), delta)
        delta.grad = gradient
        with torch.no_grad():
            kept = delta.clone()
            adam.step()
            length = torch.linalg.vector_norm(delta, dim=-1, keepdim=True)
            delta.mul_((how.clamp * norm / length.clamp_min(1e-30)).clamp_max(1))
            delta[done] = kept[done]
    return Found(delta.detach(), loss.detach(), step)


def _means(values: Tensor, mask: Tensor | None, facts: int) -> Tensor:
    """Mean over contexts and target tokens of values [B, T] of so many facts [F]."""
    if mask is None:
        return values.view(facts, -1).mean(1)
    return values.masked_fill(~mask, 0.0).view(facts, -1).sum(1) / mask.view(facts, -1).sum(1)


def _logps(model: PreTrainedModel, layer: int, asked: Asked, delta: Tensor) -> Tensor:
    rows = asked.rows
    return logits_above(model, layer, rows.ids, asked.moved(delta), rows.read).float().log_softmax(-1)
