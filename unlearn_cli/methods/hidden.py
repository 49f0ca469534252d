"""Hidden states behind one block, beside the logits of the same forward pass.

The pass is the model's own: the shortcut of models/forward.py calls the parts of a block, so that a hook on the block
would not fire.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unlearn_cli.methods.editing.network import at, blocks, numbers
from unlearn_cli.methods.loss import AnswerBatch, Place
from unlearn_cli.models.anatomy import unwrapped
from unlearn_cli.training.fit import answer_mask
from unlearn_cli.worlds.language import Sentences


def read(model: torch.nn.Module, place: Place, sentences: Sentences, device: torch.device) -> AnswerBatch:
    """Logits at the answers, and the states of `place`, those of one sentence after those of another."""
    rows = sentences.input_ids if place.positions == "all" else sentences.through_answer[:, :-1]
    ids = torch.from_numpy(rows).to(device)
    predicting = torch.from_numpy(sentences.positions - 1).to(device)
    inner = unwrapped(model)
    (layer,) = numbers(inner, [place.layer])
    kept: list[Tensor] = []
    hook = blocks(inner)[layer].register_forward_hook(lambda _, __, out: kept.append(_states(out)))
    try:
        logits = at(inner(input_ids=ids, use_cache=False).logits, predicting)
    finally:
        hook.remove()
    (states,), mask = kept, answer_mask(sentences, device)
    if place.positions == "all":
        inside = torch.arange(ids.shape[1], device=device) < torch.from_numpy(sentences.length).to(device)[:, None]
        states = states[inside]
    else:
        read = at(states, predicting)
        states = read.flatten(0, 1) if mask is None else read[mask]
    return AnswerBatch(logits, torch.from_numpy(sentences.answers).to(device), hidden=states, mask=mask)


def tokens(place: Place, sentences: Sentences) -> int:
    """How many tokens, padding left out, `read` sends through the model."""
    return int((sentences.length if place.positions == "all" else sentences.answer_end).sum())


def _states(out: Any) -> Tensor:
    """A block's hidden states: its output, or the first of its outputs."""
    states: Tensor = out[0] if isinstance(out, tuple) else out
    return states
