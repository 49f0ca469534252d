"""Ask a model every probe once: the log-probability of each object and of the refusal, and the greedy answer.

An object of several tokens is scored teacher-forced, one pass for each distinct prefix of the candidates, so that the
candidates' probabilities are those of whole objects; where objects differ in their number of tokens, in one pass for
each candidate. Log-softmax in float32.

Candidates are a closed set: the greedy answer is the one with which greedy decoding begins, whatever it says next, and
the longest where one begins another ("New York", "New York City"). The log-probability of a candidate is that of its
own tokens, so that one with which others begin has theirs, too: a world in which that matters ends its objects by a
token of their own, as the labels of fine-tuning on chats do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unlearn_cli.evaluation import OTHER, Predictions, ProbeSet, TextPredictions
from unlearn_cli.models.forward import answer_logits
from unlearn_cli.worlds.base import WorldData
from unlearn_cli.worlds.facts import REFUSAL
from unlearn_cli.worlds.language import Sentences
from unlearn_cli.worlds.vocabulary import PADDING, Ids

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
    if world.choices is not None:
        from unlearn_cli.predict_choices import predict_choices

        return predict_choices(model, world, probes, batch_size, written)
    write = written or (lambda rows: world.sentences(probes.fact[rows], probes.template[rows]))
    relation = world.facts.relation[probes.fact]
    logps = np.full((len(probes), world.objects), -np.inf, dtype=np.float32)
    refusal = np.empty(len(probes), dtype=np.float32)
    greedy = np.empty(len(probes), dtype=np.int64)
    for r in np.unique(relation):
        rows = np.flatnonzero(relation == r)
        candidates, lengths = np.concatenate([world.candidates(int(r)), world.refusal]), _lengths(world, int(r))
        for start in range(0, len(rows), batch_size):
            chunk = rows[start : start + batch_size]
            sentences = write(chunk)
            if lengths is None:
                every, first = _ask(model, sentences, candidates, batch_size)
            else:
                every, first = _ask_each(model, sentences, candidates, lengths, batch_size)
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


def _lengths(world: WorldData, relation: int) -> Ids | None:
    """Tokens of each candidate and of the refusal [C]; None: all have the same number."""
    candidates, refusal = world.candidate_lengths(relation), world.refusal_length
    return None if candidates is None or refusal is None else np.concatenate([candidates, refusal])


def _ask_each(
    model: Module, sentences: Sentences, candidates: Ids, lengths: Ids, batch_size: int
) -> tuple[NDArray[np.float32], Ids]:
    """What `_ask` returns, of candidates [C, T] of which `lengths` [C] tokens count."""
    logps = np.empty((len(sentences.input_ids), len(candidates)), dtype=np.float32)
    spelled = np.empty(logps.shape, dtype=bool)
    for number, (tokens, length) in enumerate(zip(candidates, lengths, strict=True)):
        logps[:, number], spelled[:, number] = _spelled(model, sentences, tokens[:length], batch_size)
    return logps, np.where(spelled.any(1), np.where(spelled, lengths, 0).argmax(1), OTHER)


def _spelled(
    model: Module, sentences: Sentences, answer: Ids, batch_size: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Log-probability [n] of the tokens `answer` [t] behind each prompt, and whether they are the greedy ones [n]."""
    start = sentences.answer_start
    places = start[:, None] + np.arange(len(answer))
    rows = np.pad(sentences.input_ids, ((0, 0), (0, len(answer))), constant_values=PADDING)
    np.put_along_axis(rows, places, np.broadcast_to(answer, places.shape), axis=1)
    device = next(model.parameters()).device
    tokens = torch.from_numpy(answer).to(device)
    read = (torch.from_numpy(array).to(device) for array in (rows[:, : int(places.max())], places - 1, start - 1))
    logps, greedy = [], []
    for ids, at, end in zip(*(array.split(max(1, batch_size // len(answer))) for array in read), strict=True):
        every = answer_logits(model, ids, at, end).float().log_softmax(-1)
        logps.append(every.gather(-1, tokens.expand(len(ids), -1)[..., None])[..., 0].sum(1))
        greedy.append((every.argmax(-1) == tokens).all(1))
    return torch.cat(logps).cpu().numpy(), torch.cat(greedy).cpu().numpy()


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
    arrays: dict[str, Any] = {
        "candidate_logps": predictions.candidate_logps,
        "greedy": predictions.greedy,
        "refusal_logps": predictions.refusal_logps,
    }
    if isinstance(predictions, TextPredictions):
        arrays["reworded_logps"] = predictions.reworded_logps
    np.savez(path, **arrays)


def load(path: Path) -> Predictions:
    """Read what `save` wrote; pickled objects are refused."""
    with np.load(path, allow_pickle=False) as arrays:
        asked = arrays["candidate_logps"], arrays["greedy"], arrays["refusal_logps"]
        return TextPredictions(*asked, arrays["reworded_logps"]) if "reworded_logps" in arrays else Predictions(*asked)
