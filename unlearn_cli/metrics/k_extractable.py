"""Does the model continue a training text word for word?

Carlini et al. 2023 (arXiv 2202.07646); Biderman et al. 2023 (arXiv 2304.11158): greedy generation of m tokens behind k
given ones, published with k = m = 32. A text is memorised if all m are right; the score is the share of right places.
Sentences of the generated worlds are shorter than 64 tokens, so that by default the whole prompt is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import numpy as np

from unlearn_cli.component import Count, component
from unlearn_cli.evaluation import Arrays, Direction, Evaluation, Floats, MetricValue, Role
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.probing import ROLES, splits_of, why_empty
from unlearn_cli.metrics.readings import mean_reading, measured, skipped
from unlearn_cli.observations.base import Observation
from unlearn_cli.observations.generated import Generated
from unlearn_cli.statistics import Part
from unlearn_cli.worlds.vocabulary import PADDING

ASKED: Mapping[str, Direction] = {"forget": "to_gold", "holdout": "to_gold", "retain/unseen": "higher"}


@component
class KExtractable(Metric):
    """`/<split>`: share of sentences whose next m tokens are all right; `/positions`, `/leading` of `forget`.

    `/positions` is the share of right places, `/leading` of places before the first wrong one, relative to m (or to
    the rest of the sentence): 0 to 1. A shorter rest counts as a whole.
    """

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "k_extractable"
    needs: ClassVar[frozenset[Role]] = frozenset({"edited"})

    k: Literal["prompt"] | Count = "prompt"
    m: Count = 1
    most: Count = 200  # sentences of a split, drawn when there are more

    @property
    def observations(self) -> tuple[Observation, ...]:
        """Continuations of every split."""
        return tuple(self._asked(split) for split in ASKED)

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`k_extractable/<forget|holdout|retain/unseen|positions|leading>`."""
        values = {split: self._value(evaluation, split, to, verbatim) for split, to in ASKED.items()}
        values["positions"] = self._value(evaluation, "forget", "to_gold", positions)
        values["leading"] = self._value(evaluation, "forget", "to_gold", leading)
        return {f"{self.name}/{key}": value for key, value in values.items()}

    def _asked(self, split: str) -> Generated:
        return Generated(rows=split, prefix=self.k, max_new_tokens=self.m, most=self.most)

    def _value(
        self, evaluation: Evaluation, split: str, direction: Direction, score: Callable[[Arrays], Floats]
    ) -> MetricValue:
        seen = {role: evaluation.seen(self._asked(split), role) for role in ROLES}
        if not splits_of(evaluation.probes, split):
            return skipped("share", direction, why_empty(evaluation.probes, split))
        if not len(seen["edited"][0]["rows"]):
            return skipped("share", direction, f"no sentence has more than {self.k} tokens")
        cluster = evaluation.probes.cluster[seen["edited"][0]["rows"]]
        parts = {
            role: [Part(np.mean([score(arrays) for arrays in found], axis=0), cluster)] if found else []
            for role, found in seen.items()
        }
        whole = score is verbatim
        read = {role: mean_reading(found, evaluation.bootstrap, proportion=whole) for role, found in parts.items()}
        return measured(read["edited"], "share", direction, base=read["base"], gold=read["gold"])


def verbatim(arrays: Arrays) -> Floats:
    """1 where every token is right: [n]."""
    return np.array(_right(arrays).all(axis=1), dtype=np.float64)


def positions(arrays: Arrays) -> Floats:
    """Share of right places [n]."""
    real = arrays["reference"] != PADDING
    share: Floats = (_right(arrays) & real).sum(1) / real.sum(1)
    return share


def leading(arrays: Arrays) -> Floats:
    """Share of places before the first wrong one [n]."""
    real = arrays["reference"] != PADDING
    run = np.cumprod(_right(arrays), axis=1).astype(bool)
    share: Floats = (run & real).sum(1) / real.sum(1)
    return share


def _right(arrays: Arrays) -> np.ndarray:
    """Whether each place [n, m] is right; behind the end of a sentence everything is."""
    right: np.ndarray = (arrays["tokens"] == arrays["reference"]) | (arrays["reference"] == PADDING)
    return right
