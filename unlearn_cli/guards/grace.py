"""GRACE's codebook: prompts near a key have the output of one MLP replaced by that key's value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from unlearn_cli.guards.base import Guard
from unlearn_cli.guards.hooks import hooked, keys
from unlearn_cli.methods.editing.network import at, blocks, in_rows, output_of
from unlearn_cli.models.forward import answer_logits

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Replace = Literal["answer", "last", "prompt", "all"]

NOTHING = -1  # behind the end of a shorter answer


class Codebook(Guard):
    """Entries at block `layer`. A key is what the MLP's second matrix reads at the prompt's last token."""

    keys: Tensor  # [N, d_ff]
    values: Tensor  # [N, S, d] what the matrix puts out instead: for each answer token, or S = 1
    radii: Tensor  # [N]
    labels: Tensor  # [N, T] the tokens that an entry answers, NOTHING behind the end of fewer

    def __init__(
        self, layer: int, replace: Replace, eps: float, entries: int, places: int, label: int, key: int, value: int
    ) -> None:
        super().__init__()
        self.layer, self.replace, self.eps = layer, replace, eps
        self.register_buffer("keys", torch.zeros(entries, key))
        self.register_buffer("values", torch.zeros(entries, places, value))
        self.register_buffer("radii", torch.zeros(entries))
        self.register_buffer("labels", torch.zeros(entries, label, dtype=torch.int64))

    @property
    def config(self) -> dict[str, Any]:
        """The place, the initial radius, and the sizes."""
        entries, places, value = self.values.shape
        sizes = {"entries": entries, "places": places, "label": self.labels.shape[1]}
        width = {"key": self.keys.shape[1], "value": value}
        return {"layer": self.layer, "replace": self.replace, "eps": self.eps} | sizes | width

    def lookup(self, asked: Tensor) -> Tensor:
        """The nearest entry of each key [B, d_ff], or -1 if that is farther than its radius: [B]."""
        if not len(self.keys):
            return torch.full((len(asked),), -1, device=asked.device)
        nearest = torch.cdist(asked, self.keys, compute_mode="donot_use_mm_for_euclid_dist").min(1)
        return torch.where(nearest.values <= self.radii[nearest.indices], nearest.indices, -1)

    def answer_logits(self, model: PreTrainedModel, input_ids: Tensor, positions: Tensor, prompt_end: Tensor) -> Tensor:
        """The model's own logits, but for prompts that fall on an entry."""
        logits = answer_logits(model, input_ids, positions)
        entry = self.lookup(keys(model, [self.layer], input_ids, prompt_end)[:, 0])
        rows = (entry >= 0).nonzero()[:, 0]
        if not len(rows):
            return logits
        edited = self._edited(model, input_ids[rows], entry[rows], prompt_end[rows])
        return logits.index_copy(0, rows, at(edited, positions[rows]))

    def _edited(self, model: PreTrainedModel, input_ids: Tensor, entry: Tensor, prompt_end: Tensor) -> Tensor:
        """Logits [B, L, V] with the values of entries [B] in the output's place."""
        values, places = self.values[entry], (self.labels[entry] != NOTHING).sum(1)
        slots = slots_of(self.replace, input_ids.shape[1], prompt_end, places)
        module = output_of(blocks(model)[self.layer])
        rows = len(input_ids)
        with hooked([(module, lambda _, out: replaced(in_rows(out, rows), values, slots).view_as(out))]):
            logits: Tensor = model(input_ids=input_ids, use_cache=False).logits
        return logits


def slots_of(replace: Replace, length: int, prompt_end: Tensor, places: int | Tensor) -> Tensor:
    """Which of an entry's values stands at each position, -1 for none: [B, L]; so many, or [B], are for tokens."""
    offset = torch.arange(length, device=prompt_end.device) - prompt_end[:, None]
    if replace == "answer":
        most = places[:, None] if isinstance(places, Tensor) else places
        return torch.where((offset >= 0) & (offset < most), offset, -1)
    inside = {"last": offset == 0, "prompt": offset < 0, "all": offset == offset}
    return inside[replace].long() - 1


def replaced(out: Tensor, values: Tensor, slots: Tensor) -> Tensor:
    """`out` [B, L, d] with `values` [B, S, d] where `slots` [B, L] name one."""
    chosen = at(values, slots.clamp_min(0))
    return torch.where((slots >= 0)[..., None], chosen, out)
