"""The search of GRACE's values: Adam on the answers' NLL, of all entries side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from unlearn_cli.guards.grace import replaced, slots_of
from unlearn_cli.guards.hooks import hooked
from unlearn_cli.methods.editing.network import at, blocks, in_rows, logits_above, output_of, states_of
from unlearn_cli.methods.editing.prompts import Prompts
from unlearn_cli.methods.editing.write import write_of
from unlearn_cli.methods.grace import GRACE

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHUNK = 1024  # rows in one forward pass


class Search:
    """Finds the values of entries, and counts what that takes."""

    def __init__(
        self, method: GRACE, model: PreTrainedModel, layer: int, rows: Prompts, rng: np.random.Generator
    ) -> None:
        self.method, self.model, self.layer, self.rows, self.rng = method, model, layer, rows, rng
        self.write = write_of(model, layer)
        self.steps, self.tokens, self.trained = 0, 0.0, 0
        self.losses: list[Tensor] = []

    @property
    def loss(self) -> float:
        """Mean over the entries that were looked at, 0 if there were none."""
        return float(torch.cat(self.losses).mean()) if self.losses else 0.0

    def run(self, entry: Tensor, known: Tensor, entries: int) -> Tensor:
        """Values [N, S, d] of all entries, given those `known` so far and the entry [P] of each prompt, -1 for none."""
        fresh = self.rng.random((entries - len(known), *known.shape[1:]))
        values = torch.cat([known, torch.from_numpy(fresh).to(known)])
        order = entry.argsort(stable=True)
        order = order[entry[order] >= 0]
        if not len(order):
            return values
        asked = entry.unique()
        for part in asked.tensor_split(-(-len(order) // CHUNK)):
            mine = order[torch.isin(entry[order], part)]
            values[part] = self._found(mine, torch.searchsorted(part, entry[mine]), values[part], part < len(known))
        return values

    def _found(self, chosen: Tensor, owner: Tensor, start: Tensor, known: Tensor) -> Tensor:
        """Values [E, S, d] for the prompts `chosen` [B], whose entries `owner` [B] ascend; `known` [E] have one."""
        rows, method = self.rows, self.method
        ids, read, answers = rows.ids[chosen], rows.read[chosen], rows.answers[chosen]
        inside = torch.ones_like(answers, dtype=torch.bool) if rows.mask is None else rows.mask[chosen]
        out, hidden = self._states(ids)
        slots = slots_of(method.replace, ids.shape[1], read[:, 0], inside.sum(1))
        if method.init == "warm":
            first = torch.searchsorted(owner, torch.arange(len(start), device=owner.device))
            place = torch.arange(start.shape[1], device=owner.device).clamp_max(read.shape[1] - 1)
            own = at(out[first], read[first][:, place])
            start = torch.where(known[:, None, None], start, own)
        values = start.clone().requires_grad_()
        adam = torch.optim.Adam([values], lr=method.lr)
        share = 1 / torch.bincount(owner)[owner]
        kept = torch.zeros_like(known)
        for step in range(method.steps + 1):
            moved = hidden + self.write(replaced(out, values[owner], slots)) - self.write(out)
            logits = logits_above(self.model, self.layer, ids, moved, read).float()
            if step == 0:  # an entry that is right about its new prompts, too, is no error to edit
                wrong = owner[((logits.argmax(-1) != answers) & inside).any(-1)]
                kept = known & ~torch.isin(torch.arange(len(start), device=owner.device), wrong)
            logps = logits.log_softmax(-1).gather(-1, answers[..., None])[..., 0]
            nll = -(logps.mean(-1) if rows.mask is None else (logps * inside).sum(-1) / inside.sum(-1))
            loss = torch.zeros(len(start), device=nll.device).index_add(0, owner, nll * share)
            if step == method.steps or bool(kept.all()):
                break
            (values.grad,) = torch.autograd.grad(loss.sum(), values)
            adam.step()
            values.data[kept] = start[kept]
        self.steps, self.trained = self.steps + step, self.trained + int((~kept).sum())
        self.tokens += ids.numel() * step
        self.losses.append(loss.detach())
        return values.detach()

    @torch.no_grad()
    def _states(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """What the MLP and the block put out [B, L, d]."""
        block, found = blocks(self.model)[self.layer], dict[str, Tensor]()
        hooks = [
            (output_of(block), lambda _, out: found.update(mlp=in_rows(out, len(ids)))),
            (block, lambda _, out: found.update(block=states_of(out))),
        ]
        with hooked(hooks):
            self.model.base_model(input_ids=ids, use_cache=False)
        return found["mlp"], found["block"]
