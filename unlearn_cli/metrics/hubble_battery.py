"""Memorisation by how often a fact was stated (Wei et al. 2025, Hubble, arXiv 2510.19811).

Hubble inserts texts 0, 1, 4, 16, 64 and 256 times and reads everything by duplication. Here the world's exposures are
the duplications (`world.exposure.kind=buckets` or `zipf`), the holdout is 0, and what is read is the share of right
answer tokens; its tests of biographies and of benchmark contamination have no counterpart in these worlds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import ClassVar

import numpy as np

from unlearn_cli.component import Count, component
from unlearn_cli.evaluation import Direction, Evaluation, Floats, Ids, MetricValue, Reading, Role
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.exact_memorization import ExactMemorization
from unlearn_cli.metrics.probing import ROLES, splits_of
from unlearn_cli.metrics.readings import mean_reading, measured, skipped
from unlearn_cli.observations.base import Observation
from unlearn_cli.observations.token_scores import TokenScores
from unlearn_cli.statistics import Part

GROUPS: Mapping[str, Direction] = {"forget": "to_gold", "retain": "higher"}


@component
class HubbleBattery(Metric):
    """`/<forget|retain>/<exposure>`: `exact_memorization` of facts stated so often, 0 to 1; `/holdout`: never stated.

    `/d50`: exposure at which half of the must-not-change facts are recalled, interpolated in its logarithm. With more
    than `most` exposures they are grouped by powers of two, each named by the least.
    """

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "hubble_battery"
    needs: ClassVar[frozenset[Role]] = frozenset({"edited"})

    most: Count = 8

    @property
    def observations(self) -> tuple[Observation, ...]:
        """Every token of the sentences."""
        return (TokenScores(),)

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`hubble_battery/<group>/<exposure>`, `/holdout`, `/d50`."""
        groups = {group: self._levels(evaluation, group) for group in GROUPS}
        if len({level for found in groups.values() for level in found}) < 2:
            reason = "every fact was stated equally often: world.exposure.kind=constant"
            return {self.name: skipped("share", "descriptive", reason)}
        values = {
            f"{group}/{level}": self._value(evaluation, rows, GROUPS[group])
            for group, found in groups.items()
            for level, rows in found.items()
        }
        never = _rows(evaluation, "holdout")
        if len(never):
            values["holdout"] = self._value(evaluation, never, "to_gold")
        values["d50"] = _half(values)
        return {f"{self.name}/{key}": value for key, value in values.items()}

    def _levels(self, evaluation: Evaluation, group: str) -> dict[int, Ids]:
        """Rows of a group's facts by how often they were stated."""
        seen, rows = evaluation.seen(TokenScores(), "edited")[0], _rows(evaluation, group)
        exposure = seen["exposure"]
        if len(np.unique(exposure[exposure > 0])) > self.most:
            exposure = np.where(exposure > 0, 2 ** np.floor(np.log2(np.maximum(exposure, 1))), 0)
        of = exposure[np.searchsorted(seen["rows"], rows)]
        return {int(level): rows[of == level] for level in np.unique(of) if level > 0}

    def _value(self, evaluation: Evaluation, rows: Ids, direction: Direction) -> MetricValue:
        read = {role: self._read(evaluation, role, rows) for role in ROLES}
        return measured(read["edited"], "share", direction, base=read["base"], gold=read["gold"])

    def _read(self, evaluation: Evaluation, role: Role, rows: Ids) -> Reading | None:
        """Share of right tokens in `rows`, averaged over the role's models."""
        models = evaluation.seen(TokenScores(), role)
        if not models:
            return None
        place = np.searchsorted(models[0]["rows"], rows)
        known: Floats = np.mean([ExactMemorization().items(scores)[place] for scores in models], axis=0)
        return mean_reading([Part(known, evaluation.probes.cluster[rows])], evaluation.bootstrap)


def _rows(evaluation: Evaluation, group: str) -> Ids:
    splits = splits_of(evaluation.probes, group)
    return np.concatenate([split.rows for split in splits]) if splits else np.empty(0, dtype=np.int64)


def _half(values: Mapping[str, MetricValue]) -> MetricValue:
    """The exposure at which recall crosses one half, for every role that crosses it."""
    levels = sorted(int(key.removeprefix("retain/")) for key in values if key.startswith("retain/"))
    at = {role: half_recall(levels, [getattr(values[f"retain/{level}"], role) for level in levels]) for role in ROLES}
    reason = "recall of must-not-change facts does not cross one half between two exposures"
    return measured(at["edited"], "sentences", "lower", base=at["base"], gold=at["gold"], undefined=reason)


def half_recall(levels: Sequence[int], recall: Sequence[Reading | None]) -> Reading | None:
    """Where recall first rises through one half, interpolated in log2 of the exposure; None where it does not."""
    known = [(level, reading.value) for level, reading in zip(levels, recall, strict=True) if reading]
    for (low, below), (high, above) in pairwise(known):
        if below < 0.5 <= above:
            share = (0.5 - below) / (above - below)
            exposure = 2 ** (np.log2(low) + share * (np.log2(high) - np.log2(low)))
            return Reading(float(exposure), sum(reading.n for reading in recall if reading))
    return None
