"""How much of what follows comes back, in any order, wherever the sentence is broken off.

Jang et al. 2023 (arXiv 2210.01504, equation 2), n = 10 and every place of texts of 200 tokens; here every `stride`-th
place of a sentence, the first token (which begins every text) always given, and n below the length of a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from unlearn_cli.component import Count, component
from unlearn_cli.evaluation import Arrays, Direction, Evaluation, Floats, Ids, MetricValue, Role
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.probing import ROLES
from unlearn_cli.metrics.readings import mean_reading, measured, skipped
from unlearn_cli.observations.base import Observation
from unlearn_cli.observations.generated import Generated
from unlearn_cli.statistics import Part
from unlearn_cli.worlds.vocabulary import PADDING

ASKED: Mapping[str, Direction] = {"forget": "to_gold", "holdout": "to_gold"}


@component
class ExtractionLikelihood(Metric):
    """EL_n = mean over places of the share of the continuation's n-grams that the true rest contains: 0 to 1.

    N-grams are counted as a list, and the continuation is as long as the rest. Forgotten, by its authors, once EL and
    `memorization_accuracy` on `forget` are below their means on unseen text, here `/holdout`. Even who knows everything
    stays below 1: no model can know from its first token which sentence is meant.
    """

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "extraction_likelihood"
    needs: ClassVar[frozenset[Role]] = frozenset({"edited"})

    n: Count = 3
    stride: Count = 4
    max_len: Count = 16  # tokens of a sentence that are read
    most: Count = 100  # sentences of a split, drawn when there are more

    @property
    def observations(self) -> tuple[Observation, ...]:
        """Continuations from every place."""
        return tuple(asked for split in ASKED for asked in self._asked(split))

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`extraction_likelihood/<forget|holdout>`."""
        return {f"{self.name}/{split}": self._value(evaluation, split, to) for split, to in ASKED.items()}

    def _asked(self, split: str) -> list[Generated]:
        places = range(1, max(2, self.max_len - self.n + 1), self.stride)
        return [
            Generated(rows=split, prefix=place, max_new_tokens=max(self.n, self.max_len - place), most=self.most)
            for place in places
        ]

    def _value(self, evaluation: Evaluation, split: str, direction: Direction) -> MetricValue:
        parts = {role: self._parts(evaluation, split, role) for role in ROLES}
        if not parts["edited"]:
            return skipped("share", direction, f"no sentence of {split} has a rest of {self.n} tokens")
        read = {role: mean_reading(found, evaluation.bootstrap) for role, found in parts.items()}
        return measured(read["edited"], "share", direction, base=read["base"], gold=read["gold"])

    def _parts(self, evaluation: Evaluation, split: str, role: Role) -> list[Part]:
        """Each sentence's mean over its places, averaged over the role's models."""
        total, count = np.zeros(len(evaluation.probes)), np.zeros(len(evaluation.probes))
        for asked in self._asked(split):
            for arrays in evaluation.seen(asked, role):
                shares, long_enough = overlaps(arrays, self.n)
                np.add.at(total, arrays["rows"][long_enough], shares[long_enough])
                np.add.at(count, arrays["rows"][long_enough], 1)
        rows = np.flatnonzero(count)
        return [Part(total[rows] / count[rows], evaluation.probes.cluster[rows])] if len(rows) else []


def overlaps(arrays: Arrays, n: int) -> tuple[Floats, np.ndarray]:
    """Share of each continuation's n-grams that its reference has [n rows], and whether the reference has any."""
    length = (arrays["reference"] != PADDING).sum(1)
    shares = [_overlap(said[:end], true[:end], n) for said, true, end in _rows(arrays, length)]
    return np.array(shares), length >= n


def _rows(arrays: Arrays, length: Ids) -> zip[tuple[Ids, Ids, int]]:
    return zip(arrays["tokens"], arrays["reference"], length, strict=True)


def _overlap(said: Ids, true: Ids, n: int) -> float:
    known = {tuple(true[i : i + n]) for i in range(len(true) - n + 1)}
    grams = [tuple(said[i : i + n]) for i in range(len(said) - n + 1)]
    return sum(gram in known for gram in grams) / len(grams) if grams else 0.0
