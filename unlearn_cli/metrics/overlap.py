"""Overlap of token sequences: ROUGE-1 and ROUGE-L (Lin 2004, Text Summarization Branches Out, W04-1013), many at once.

On the world's tokens, one word each: there is nothing to lower-case or to stem. What ends or pads a text is no word.
Of real text the words are compared, in lower case, and not stemmed as `rouge_score` would.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from unlearn_cli.evaluation import Arrays, Floats, Ids
from unlearn_cli.worlds.vocabulary import END, PADDING

Kind = Literal["recall", "f1"]


def words(tokens: Ids) -> NDArray[np.bool_]:
    """Which tokens [n, m] are words."""
    return (tokens != PADDING) & (tokens != END)


def pair(arrays: Arrays) -> tuple[Ids, Ids]:
    """What is compared of `Generated` arrays: what was said, and the reference."""
    return arrays.get("said", arrays["tokens"]), arrays.get("wanted", arrays["reference"])


def longest_common(said: Ids, reference: Ids) -> Ids:
    """Length of the longest common subsequence of each pair of rows, [n, m] and [n, k]: [n]."""
    same = (said[:, :, None] == reference[:, None, :]) & words(said)[:, :, None] & words(reference)[:, None, :]
    best = np.zeros((len(said), reference.shape[1] + 1), dtype=np.int64)
    for i in range(said.shape[1]):
        row = np.zeros_like(best)
        for j in range(reference.shape[1]):
            kept = np.maximum(row[:, j], best[:, j + 1])
            row[:, j + 1] = np.where(same[:, i, j], best[:, j] + 1, kept)
        best = row
    return best[:, -1]


def shared(said: Ids, reference: Ids) -> Ids:
    """Words that each pair of rows has in common, with multiplicity: [n]."""
    found = np.zeros(len(said), dtype=np.int64)
    for i, (a, b) in enumerate(zip(said, reference, strict=True)):
        mine, many = np.unique(a[words(a)], return_counts=True)
        theirs, much = np.unique(b[words(b)], return_counts=True)
        _, left, right = np.intersect1d(mine, theirs, return_indices=True)
        found[i] = np.minimum(many[left], much[right]).sum()
    return found


def rouge_l(said: Ids, reference: Ids, kind: Kind) -> Floats:
    """ROUGE-L of each pair of rows; NaN where the reference has no word."""
    return _score(longest_common(said, reference), said, reference, kind)


def rouge_1(said: Ids, reference: Ids, kind: Kind) -> Floats:
    """ROUGE-1 of each pair of rows; NaN where the reference has no word."""
    return _score(shared(said, reference), said, reference, kind)


def _score(common: Ids, said: Ids, reference: Ids, kind: Kind) -> Floats:
    wanted = words(reference).sum(axis=1)
    total = wanted if kind == "recall" else (wanted + words(said).sum(axis=1)) / 2  # F1 = 2 common / (both lengths)
    return np.divide(common, total, out=np.full(len(common), np.nan), where=wanted > 0)
