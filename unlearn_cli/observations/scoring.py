"""Teacher-forced statistics of every token of a sentence, over the whole vocabulary in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unlearn_cli.models.forward import answer_logits
from unlearn_cli.worlds.language import Sentences

if TYPE_CHECKING:
    from torch.nn import Module


@torch.no_grad()
def token_statistics(model: Module, sentences: Sentences, batch_size: int) -> dict[str, NDArray[Any]]:
    """Of tokens 1..L-1 of each sentence: `logp`, `rank`, `mean`, `sd`, `entropy` float32, `hit` bool: [n, L - 1].

    A pass has as many rows as make `batch_size` tokens: then its logits are as large as those of a pass of `predict`.
    """
    device = next(model.parameters()).device
    ids = torch.from_numpy(sentences.input_ids).to(device)
    prompt_end = torch.from_numpy(sentences.answer_start - 1).to(device)
    places = torch.arange(ids.shape[1] - 1, device=device)
    rows = max(1, batch_size // max(1, len(places)))
    pieces = [
        _statistics(answer_logits(model, part[:, :-1], places, end).float().log_softmax(-1), part[:, 1:])
        for part, end in zip(ids.split(rows), prompt_end.split(rows), strict=True)
    ]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def _statistics(logps: Tensor, tokens: Tensor) -> dict[str, NDArray[Any]]:
    """Of tokens [B, P], whose distributions are `logps` [B, P, V]."""
    own = logps.gather(-1, tokens[..., None])
    probabilities = logps.exp()
    weighted = torch.where(probabilities > 0, probabilities * logps, 0.0)  # 0 log 0 = 0
    mean = weighted.sum(-1)
    spread = torch.where(probabilities > 0, probabilities * (logps - mean[..., None]) ** 2, 0.0).sum(-1)
    better, equal = (logps > own).sum(-1), (logps == own).sum(-1)
    found = {
        "logp": own[..., 0],
        "rank": 1 + better.float() + (equal - 1).float() / 2,
        "mean": mean,
        "sd": spread.sqrt(),
        "entropy": -mean,
        "hit": logps.argmax(-1) == tokens,
    }
    return {name: values.cpu().numpy() for name, values in found.items()}
