"""Ask a model every probe of a world whose facts have competing answers of their own, each of its own length.

Every competing answer is written behind its prompt and scored in one teacher-forced pass: the sum of its tokens'
log-probabilities, in float32. An answer is the greedy one if each of its tokens is the most probable; of several that
begin alike, the longest is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from unlearn_cli.evaluation import OTHER, ProbeSet, TextPredictions
from unlearn_cli.models.forward import answer_logits
from unlearn_cli.worlds.base import WorldData
from unlearn_cli.worlds.facts import NONE, REFUSAL
from unlearn_cli.worlds.language import Sentences
from unlearn_cli.worlds.vocabulary import PADDING, Ids

if TYPE_CHECKING:
    from torch.nn import Module

MOST = 2**27  # logits of one forward pass: half a gigabyte
Written = Callable[[Ids], Sentences]


@torch.no_grad()
def predict_choices(
    model: Module, world: WorldData, probes: ProbeSet, batch_size: int, written: Written | None = None
) -> TextPredictions:
    """Answer all probes; objects that do not compete with a probe's own have a log-probability of -inf."""
    pairs = _pairs(world, probes)
    scores, spelled, tokens = _score(model, _Writer(world, probes, written), pairs, batch_size)
    logps = np.full((len(probes), world.objects), -np.inf, dtype=np.float32)
    refusal = np.empty(len(probes), dtype=np.float32)
    reworded = np.full(len(probes), np.nan, dtype=np.float32)
    reworded[pairs.rows[pairs.again]] = scores[pairs.again]
    refused, competes = pairs.objects == REFUSAL, (pairs.objects != REFUSAL) & ~pairs.again
    logps[pairs.rows[competes], pairs.objects[competes]] = scores[competes]
    refusal[pairs.rows[refused]] = scores[refused]
    greedy = np.full(len(probes), OTHER, dtype=np.int64)
    order = np.argsort(tokens, kind="stable")
    said = order[(spelled & ~pairs.again)[order]]  # the longest comes last, and stays
    greedy[pairs.rows[said]] = pairs.objects[said]
    return TextPredictions(logps, greedy, refusal, reworded)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Probes, and for each the answers that are scored."""

    rows: Ids  # [P]
    objects: Ids  # [P] REFUSAL included
    again: NDArray[np.bool_]  # [P] whether it is the right answer in other words


def _pairs(world: WorldData, probes: ProbeSet) -> _Pairs:
    assert world.choices is not None
    choices = world.choices[probes.fact]
    reworded = np.full(len(choices), NONE) if world.reworded is None else world.reworded[probes.fact]
    every = np.concatenate([choices, np.full((len(choices), 1), REFUSAL), reworded[:, None]], axis=1)
    rows, places = np.nonzero(every != NONE)
    return _Pairs(rows, every[rows, places], places > choices.shape[1])


@dataclass(frozen=True, eq=False)
class _Writer:
    """Sentences of pairs: the world's own, jointly tokenised, or answers in the place of those that `written` wrote."""

    world: WorldData
    probes: ProbeSet
    written: Written | None

    def write(self, rows: Ids, objects: Ids) -> Sentences:
        facts = self.probes.fact[rows]
        if self.written is None:
            return self.world.sentences(facts, self.probes.template[rows], objects)
        prompts, relation = self.written(rows), self.world.facts.relation[facts]
        return answered(prompts, self.world.language.answers(relation, objects), self._lengths(relation, objects))

    def _lengths(self, relation: Ids, objects: Ids) -> Ids:
        lengths = self.world.language.answer_lengths(relation, objects)
        assert lengths is not None
        return lengths


def answered(prompts: Sentences, answers: Ids, lengths: Ids) -> Sentences:
    """The prompts [n] with other answers [n, T] of `lengths` [n] tokens, and nothing behind them."""
    start = prompts.answer_start
    width = int((start + lengths).max())
    out = np.full((len(start), width), PADDING, dtype=np.int64)
    every = np.arange(width)
    kept = np.minimum(width, prompts.input_ids.shape[1])
    out[:, :kept] = prompts.input_ids[:, :kept]
    place = every[None] - start[:, None]
    inside = (place >= 0) & (place < lengths[:, None])
    out[inside] = answers[np.nonzero(inside)[0], place[inside]]
    out[place >= lengths[:, None]] = PADDING
    return Sentences(out, start, start + lengths, answers.shape[1], prompts.subject_end, lengths)


def _score(
    model: Module, writer: _Writer, pairs: _Pairs, batch_size: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_], Ids]:
    """Log-probability, whether greedy decoding spells it, and number of tokens, of each pair [P]."""
    n = len(pairs.rows)
    scores, spelled, tokens = np.empty(n, dtype=np.float32), np.empty(n, dtype=bool), np.empty(n, dtype=np.int64)
    device = next(model.parameters()).device
    for chunk, sentences in _batches(writer, pairs, batch_size):
        mask = sentences.answer_mask
        answers = sentences.answers
        real = np.ones(answers.shape, dtype=bool) if mask is None else mask
        ids = torch.from_numpy(sentences.through_answer).to(device)
        read = torch.from_numpy(sentences.positions - 1).to(device)
        end = torch.from_numpy(sentences.answer_start - 1).to(device)
        every = answer_logits(model, ids[:, :-1], read, end).float()
        labels, counts = torch.from_numpy(answers).to(device), torch.from_numpy(real).to(device)
        logps = every.log_softmax(-1).gather(-1, labels[..., None])[..., 0]
        scores[chunk] = logps.masked_fill(~counts, 0).sum(-1).cpu().numpy()
        spelled[chunk] = ((every.argmax(-1) == labels) | ~counts).all(-1).cpu().numpy()
        tokens[chunk] = real.sum(1)
    return scores, spelled, tokens


def _batches(writer: _Writer, pairs: _Pairs, batch_size: int) -> Iterator[tuple[Ids, Sentences]]:
    """Pairs of like length together, so that little is padded and the logits fit."""
    vocabulary = writer.world.vocabulary.size
    for start in range(0, len(pairs.rows), 4096):
        part = np.arange(start, min(start + 4096, len(pairs.rows)))
        lengths = writer.write(pairs.rows[part], pairs.objects[part]).length
        part = part[np.argsort(lengths, kind="stable")]
        while len(part):
            chunk = part[:batch_size]
            sentences = writer.write(pairs.rows[chunk], pairs.objects[chunk])
            fits = max(1, MOST // (vocabulary * int(sentences.positions.shape[1])))
            if fits < len(chunk):
                chunk = chunk[:fits]
                sentences = writer.write(pairs.rows[chunk], pairs.objects[chunk])
            yield chunk, sentences
            part = part[len(chunk) :]
