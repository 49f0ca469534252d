"""Prompts with something in front of them: sentences of a world laid one behind the other in one row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from unlearn_cli.worlds.language import Sentences
from unlearn_cli.worlds.vocabulary import PADDING, Ids


def in_context(told: Sequence[Sentences], asked: Sentences) -> Sentences:
    """Row i of `asked` [n] behind row i of each of `told`, in order.

    A token that closes one sentence and opens the next is written once, as between the sentences of a packed text.
    """
    out = asked
    for before in reversed(told):
        out = _behind(before, out)
    return out


def chosen(sentences: Sentences, rows: Ids) -> Sentences:
    """Some rows of sentences."""
    columns = {name: getattr(sentences, name)[rows] for name in ("input_ids", "answer_start", "length", "subject_end")}
    lengths = sentences.answer_lengths
    return replace(sentences, **columns, answer_lengths=None if lengths is None else lengths[rows])


def only_where(sentences: Sentences, told: NDArray[np.bool_]) -> Sentences:
    """Sentences of which those that are not `told` [n] have no token."""
    return replace(sentences, length=np.where(told, sentences.length, 0))


def _behind(before: Sentences, asked: Sentences) -> Sentences:
    n = len(asked.input_ids)
    last = before.input_ids[np.arange(n), np.maximum(before.length - 1, 0)]
    start = np.maximum(before.length - (last == asked.input_ids[:, 0]), 0)
    out = np.full((n, int((start + asked.length).max(initial=0))), PADDING, dtype=np.int64)
    place = np.arange(out.shape[1])[None]
    out = _copied(out, before.input_ids, place, before.length[:, None])
    out = _copied(out, asked.input_ids, place - start[:, None], asked.length[:, None])
    found = asked.subject_end >= 0
    return replace(
        asked,
        input_ids=out,
        answer_start=asked.answer_start + start,
        length=asked.length + start,
        subject_end=np.where(found, asked.subject_end + start, asked.subject_end),
    )


def _copied(out: Ids, rows: Ids, column: Ids, length: Ids) -> Ids:
    """`out` [n, L] with rows [n, l] in it: at each place the row's `column` [n, L], where that is inside its length."""
    inside = (column >= 0) & (column < length)
    taken = np.take_along_axis(rows, np.clip(np.broadcast_to(column, out.shape), 0, rows.shape[1] - 1), axis=1)
    return np.where(inside, taken, out)
