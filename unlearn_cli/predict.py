"""Ask a model every probe once: the log-probability of each object and of the refusal, and the greedy answer.

An object of several tokens is scored teacher-forced, one pass for each distinct prefix of the candidates, so that the
candidates' probabilities are those of whole objects. Log-softmax in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unlearn_cli.evaluation import OTHER, Predictions, ProbeSet
from unlearn_cli.models.forward import answer_logits
from unlearn_cli.worlds.base import WorldData
from unlearn_cli.worlds.facts import REFUSAL
from unlearn_cli.worlds.language import Sentences
from unlearn_cli.worlds.vocabulary import Ids

if TYPE_CHECKING:
    from torch.nn import Module


@torch.no_grad()
def predict(
    model: Module,
    world: WorldData,
    probes: ProbeSet,
    batch_size: int,
    written: Callable[[Ids], Sentences] | None = None,
) -> Predictions:
    """Answer all probes, by its guard if the model has one.

    `batch_size` bounds the rows of one forward pass and changes nothing beyond rounding. `written` writes the prompts
    of some of the probes, by row; by default each is the world's own sentence, alone.
    """
    write = written or (lambda rows: world.sentences(probes.fact[rows], probes.template[rows]))
    relation = world.facts.relation[probes.fact]
    logps = np.full((len(probes), world.objects), -np.inf, dtype=np.float32)
    refusal = np.empty(len(probes), dtype=np.float32)
    greedy = np.empty(len(probes), dtype=np.int64)
    for r in np.unique(relation):
        rows = np.flatnonzero(relation == r)
        candidates = np.concatenate([world.candidates(int(r)), world.refusal])
        for start in range(0, len(rows), batch_size):
            chunk = rows[start : start + batch_size]
            sentences = write(chunk)
            every, first = _ask(model, sentences, candidates, batch_size)
            logps[chunk, : len(candidates) - 1], refusal[chunk] = every[:, :-1], every[:, -1]
            greedy[chunk] = np.where(first == len(candidates) - 1, REFUSAL, first)
    return Predictions(logps, greedy, refusal)


def _ask(model: Module, sentences: Sentences, candidates: Ids, batch_size: int) -> tuple[NDArray[np.float32], Ids]:
    """Score candidates [C, T] in place of n objects: log-probabilities [n, C], and the greedy one or OTHER [n]."""
    n, length = len(sentences.input_ids), candidates.shape[1]
    logps = np.zeros((n, len(candidates)), dtype=np.float32)
    on_path = np.ones(logps.shape, dtype=bool)  # greedy decoding has spelled the candidate so far
    for place in range(length):
        prefixes, which = np.unique(candidates[:, :place], axis=0, return_inverse=True)
        for number, prefix in enumerate(prefixes):
            members = np.flatnonzero(which.ravel() == number)
            rows, read = sentences.through_answer.copy(), sentences.positions
            np.put_along_axis(rows, read[:, :place], np.broadcast_to(prefix, (n, place)), axis=1)
            every = _next_token_logps(model, rows, read[:, place] - 1, read[:, 0] - 1, batch_size)
            tokens = candidates[members, place]
            logps[:, members] += every[:, tokens].cpu().numpy()
            on_path[:, members] &= every.argmax(-1).cpu().numpy()[:, None] == tokens[None]
    return logps, np.where(on_path.any(1), on_path.argmax(1), OTHER)


def _next_token_logps(model: Module, rows: Ids, read: Ids, prompt_end: Ids, batch_size: int) -> Tensor:
    """Log-probabilities [n, V] of what follows position `read` [n] of each row, whose prompt ends at `prompt_end`."""
    device = next(model.parameters()).device
    given = (torch.from_numpy(array).to(device).split(batch_size) for array in (rows, read[:, None], prompt_end))
    pieces = [
        answer_logits(model, ids, at, end)[:, 0].float().log_softmax(-1) for ids, at, end in zip(*given, strict=True)
    ]
    return torch.cat(pieces)


def save(predictions: Predictions, path: Path) -> None:
    """Write as plain arrays."""
    np.savez(
        path,
        candidate_logps=predictions.candidate_logps,
        greedy=predictions.greedy,
        refusal_logps=predictions.refusal_logps,
    )


def load(path: Path) -> Predictions:
    """Read what `save` wrote; pickled objects are refused."""
    with np.load(path, allow_pickle=False) as arrays:
        return Predictions(arrays["candidate_logps"], arrays["greedy"], arrays["refusal_logps"])
