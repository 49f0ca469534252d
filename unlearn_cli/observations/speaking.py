"""Greedy decoding of many rows at once, whatever the lengths of their prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from unlearn_cli.guards.base import Guarded
from unlearn_cli.models.forward import answer_logits
from unlearn_cli.worlds.vocabulary import NOTHING, PADDING, Ids

if TYPE_CHECKING:
    from torch.nn import Module


@torch.no_grad()
def continued(model: Module, ids: Ids, given: Ids, most: int, batch_size: int) -> Ids:
    """The `most` greedy tokens [n, m] behind the first `given` [n] tokens of rows [n, L]; what follows is not read.

    NOTHING where the model's context ends.
    """
    longest = min(int(given.max(initial=0)) + most, _context(model))
    rows = np.full((len(ids), longest), PADDING, dtype=np.int64)
    kept = np.arange(longest)[None] < given[:, None]
    width = min(longest, ids.shape[1])
    rows[:, :width] = ids[:, :width]
    rows[~kept] = PADDING
    for start in range(0, len(ids), batch_size):
        _speak(model, rows[start : start + batch_size], given[start : start + batch_size], most)
    padded = np.pad(rows, ((0, 0), (0, most)), constant_values=NOTHING)
    return np.take_along_axis(padded, given[:, None] + np.arange(most), axis=1)


def _speak(model: Module, rows: Ids, given: Ids, most: int) -> None:
    """Write greedy tokens into rows [n, L], in place: token by token, each row at its own place."""
    device = next(model.parameters()).device
    prompt_end = torch.from_numpy(given - 1).to(device)
    for place in range(most):
        on = np.flatnonzero(given + place < rows.shape[1])
        if not len(on):
            break
        read = torch.from_numpy(given[on, None] + place - 1).to(device)
        seen = torch.from_numpy(rows[on, : int(given[on].max()) + place]).to(device)
        logits = answer_logits(model, seen, read, prompt_end[on])
        rows[on, given[on] + place] = logits[:, 0].argmax(-1).cpu().numpy()


def _context(model: Module) -> int:
    """Tokens that a model can read at once."""
    inner: Any = model.model if isinstance(model, Guarded) else model
    return int(inner.config.max_position_embeddings)
