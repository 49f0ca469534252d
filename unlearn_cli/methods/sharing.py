"""Divide what a model reads among the ranks, and join what it says: a loss then sees the batch of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from unlearn_cli.methods.loss import AnswerBatch
from unlearn_cli.training.ranks import Crew
from unlearn_cli.worlds.language import Sentences

Said = TypeVar("Said", Tensor, AnswerBatch)


def shared(crew: Crew, sentences: Sentences, read: Callable[[Sentences], Said]) -> Said:
    """What `read` says of all sentences, of which each rank gives it a part; row by row, in order."""
    if crew.size == 1:
        return read(sentences)
    share = crew.share(len(sentences.length))
    return _joined(crew, read(part(sentences, share.rows)), share.idle)


def _joined(crew: Crew, said: Said, idle: bool) -> Said:
    """Every tensor, or all those of a batch."""
    if isinstance(said, AnswerBatch):
        tensors = {name: value for name, value in vars(said).items() if isinstance(value, Tensor)}
        every: dict[str, Any] = {name: crew.joined(value, idle) for name, value in tensors.items()}
        return replace(said, **every)
    return crew.joined(said, idle)


def part(sentences: Sentences, rows: slice) -> Sentences:
    """Some of the sentences."""
    columns: dict[str, Any] = {name: one for name, one in vars(sentences).items() if isinstance(one, np.ndarray)}
    return replace(sentences, **{name: column[rows] for name, column in columns.items()})
