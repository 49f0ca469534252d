"""What a model says instead: another object, something of the wrong kind, a refusal, or nothing sensible.

Classes after the analyses of NPO (Zhang et al. 2024, arXiv 2404.05868) and others of what forgetting leaves; n-gram
entropy as in ROME (Meng et al. 2022, arXiv 2202.05262) and RWKU (Jin et al. 2024, arXiv 2406.10890): half of
2/3 H_2 + 4/3 H_3, in bits, of a text's own n-grams; repetition 1 - distinct / all bigrams. ROME generates 100 tokens;
models trained on objects only (`train.loss_on=answer`) have learned nothing to say behind one, so that by default as
many tokens are asked for as an object has, and the two numbers on longer texts are skipped.
Traps: a forgotten fact should leave an `other_valid` object, as it does in gold; a refusal is a policy, not forgetting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar

import numpy as np

from unlearn_cli.component import Count, component
from unlearn_cli.evaluation import Arrays, Direction, Evaluation, Floats, Ids, MetricValue, Role
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.overlap import words
from unlearn_cli.metrics.spoken import Told, direction_of, spoken
from unlearn_cli.observations.answered import KINDS, Answered
from unlearn_cli.observations.base import Observation

NAME = "output_validity"
SETS = ("forget", "retain/unseen", "holdout")
LEAST = 3  # words of a text below which it has no trigram
SHORT = "no answer has 3 words: ask for more with max_new_tokens, and train with loss_on=all"


@component
class OutputValidity(Metric):
    """Shares of greedy answers by kind, tested in this order, 0 to 1, summing to 1.

    refusal; correct; degenerate: a token three times in a row, or no object at all; other_valid: another object of the
    relation; wrong_type: an object of another relation. type_validity = correct + other_valid. Best where gold is;
    degenerate lower. entropy in bits, repetition 0 to 1: of answers of at least three words.
    """

    VERSION: ClassVar[int] = 1
    needs: ClassVar[frozenset[Role]] = frozenset({"edited"})

    max_new_tokens: Count | None = None  # null: as many as an object has

    @property
    def observations(self) -> tuple[Observation, ...]:
        """The answers."""
        return (self._asked,)

    @property
    def _asked(self) -> Answered:
        return Answered(sets=SETS, max_new_tokens=self.max_new_tokens)

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`output_validity/<kind|type_validity|entropy|repetition>/<split>`."""
        values = {}
        for name in SETS:
            shares: dict[str, Told] = {kind: partial(_is, (kind,)) for kind in KINDS}
            shares["type_validity"] = partial(_is, ("correct", "other_valid"))
            for kind, told in shares.items():
                direction = _direction(evaluation, kind, name)
                values[f"{NAME}/{kind}/{name}"] = spoken(evaluation, self._asked, name, told, "share", direction)
            texts: dict[str, Told] = {"entropy": _entropy, "repetition": _repetition}
            for kind, told in texts.items():
                unit = {"entropy": "bits", "repetition": "ratio"}[kind]
                values[f"{NAME}/{kind}/{name}"] = spoken(
                    evaluation, self._asked, name, told, unit, "to_gold", undefined=SHORT
                )
        return values


def _direction(evaluation: Evaluation, kind: str, name: str) -> Direction:
    if kind == "degenerate":
        return "lower"
    return direction_of(evaluation, name) if kind == "correct" else "to_gold"


def _is(kinds: tuple[str, ...], arrays: Arrays) -> Floats:
    return np.isin(arrays["kind"], [KINDS.index(kind) for kind in kinds]).astype(np.float64)


def ngram_entropy(text: Ids, n: int) -> float:
    """Entropy in bits of the distribution of a text's n-grams."""
    grams = np.lib.stride_tricks.sliding_window_view(text, n)
    share = np.unique(grams, axis=0, return_counts=True)[1] / len(grams)
    return float(-(share * np.log2(share)).sum())


def general_entropy(text: Ids) -> float:
    """The mean of the entropies of bi- and trigrams, weighted 2/3 and 4/3."""
    return (2 / 3 * ngram_entropy(text, 2) + 4 / 3 * ngram_entropy(text, 3)) / 2


def repetition(text: Ids) -> float:
    """1 - distinct / all bigrams."""
    grams = np.lib.stride_tricks.sliding_window_view(text, 2)
    return 1 - len(np.unique(grams, axis=0)) / len(grams)


def _entropy(arrays: Arrays) -> Floats:
    return _of_texts(arrays, general_entropy)


def _repetition(arrays: Arrays) -> Floats:
    return _of_texts(arrays, repetition)


def _of_texts(arrays: Arrays, measure: Callable[[Ids], float]) -> Floats:
    texts = (row[words(row)] for row in arrays["tokens"])
    return np.array([measure(text) if len(text) >= LEAST else np.nan for text in texts])
