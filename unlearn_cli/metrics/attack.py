"""What every attack on an edited model is measured by: what comes back, beside the same attack on gold."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np

from unlearn_cli.evaluation import (
    Arrays,
    Direction,
    Evaluation,
    Floats,
    Ids,
    MetricValue,
    Predictions,
    Reading,
    Role,
    Split,
)
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.candidate_accuracy import CandidateAccuracy
from unlearn_cli.metrics.probing import ROLES, splits_of, why_empty
from unlearn_cli.metrics.readings import difference, mean_reading, measured, skipped
from unlearn_cli.observations.base import Observation
from unlearn_cli.statistics import Part

UNIT = "share"
LEAST_GAP = 0.02  # knowledge that must be gone before a share of it can come back
Budget = Literal["small", "paper"]


class AttackMetric(Metric):
    """Knowledge is candidate accuracy on the old objects of `forget`: m before the attack T, m(T) after it.

    <name>/forget = m(T(model)); /gain = m(T) - m; /excess = edited gain - gold gain, the result: gold never knew the
    facts, so what it gains the attack taught. Without a gold the control is the base on facts that it never knew
    (`holdout`), and the reason says so. /recovery = gain / (m(base) - m(model)), the share of what was removed that
    comes back; skipped when less than 0.02 was removed. /overlap, of attacks that are told facts: the share of
    evaluated facts whose object follows from these. /retain = m(T) on unseen facts that must not change: an attack
    that breaks the model proves nothing. Several tries (seeds, variants of the prompt) are averaged, or the best taken.
    """

    needs: ClassVar[frozenset[Role]] = frozenset({"edited", "base"})
    name: ClassVar[str]
    over_tries: ClassVar[Literal["mean", "any"]] = "mean"

    @property
    @abstractmethod
    def attack(self) -> Observation:
        """What leaves `attacked.arrays` of each model."""

    @property
    def label(self) -> str:
        """What keys begin with."""
        return self.name

    @property
    def observations(self) -> tuple[Observation, ...]:
        """The attack."""
        return (self.attack,)

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`<name>/<forget|gain|excess|recovery|retain|overlap>`."""
        forget = splits_of(evaluation.probes, "forget")
        if not forget:
            return {self.label: skipped(UNIT, "to_gold", why_empty(evaluation.probes, "forget"))}
        after = {role: self._parts(evaluation, role, forget) for role in ROLES}
        gain = {role: self._parts(evaluation, role, forget, gained=True) for role in ROLES}
        values = {
            f"{self.label}/forget": self._value(evaluation, after, "to_gold", proportion=True),
            f"{self.label}/gain": self._value(evaluation, gain, "to_gold"),
            f"{self.label}/excess": self._excess(evaluation, gain),
            f"{self.label}/recovery": self._recovery(evaluation, forget, gain),
            f"{self.label}/retain": self._retained(evaluation),
        }
        given = self._given_away(evaluation, forget)
        return {**values, f"{self.label}/overlap": given} if given else values

    def _value(
        self,
        evaluation: Evaluation,
        parts: Mapping[Role, Sequence[Part]],
        direction: Direction,
        proportion: bool = False,
    ) -> MetricValue:
        read = {role: mean_reading(parts[role], evaluation.bootstrap, proportion=proportion) for role in ROLES}
        return measured(read["edited"], UNIT, direction, base=read["base"], gold=read["gold"])

    def _excess(self, evaluation: Evaluation, gain: Mapping[Role, Sequence[Part]]) -> MetricValue:
        if gain["gold"]:
            more = [
                Part(mine.values - theirs.values, mine.cluster)
                for mine, theirs in zip(gain["edited"], gain["gold"], strict=True)
            ]
            return measured(mean_reading(more, evaluation.bootstrap), UNIT, "lower")
        never_known = splits_of(evaluation.probes, "holdout")
        if not never_known:
            return skipped(UNIT, "lower", "there is no gold model and no holdout to compare with")
        control = mean_reading(self._parts(evaluation, "base", never_known, gained=True), evaluation.bootstrap)
        mine = mean_reading(gain["edited"], evaluation.bootstrap)
        return measured(
            difference(mine, control), UNIT, "lower", reason="control: the base on holdout facts, which it never knew"
        )

    def _recovery(
        self, evaluation: Evaluation, forget: Sequence[Split], gain: Mapping[Role, Sequence[Part]]
    ) -> MetricValue:
        known = self._before(evaluation, "base", forget)
        read: dict[Role, Reading | None] = {}
        for role in ("edited", "gold"):
            gone = [
                Part(base.values - part.values, part.cluster)
                for base, part in zip(known, self._before(evaluation, role, forget), strict=False)
            ]
            if not gain[role] or float(np.mean([part.values.mean() for part in gone])) < LEAST_GAP:
                read[role] = None
            else:
                read[role] = mean_reading([*gain[role], *gone], evaluation.bootstrap, combine=_ratio)
        return measured(
            read["edited"],
            "ratio",
            "to_gold",
            gold=read["gold"],
            undefined=f"less than {LEAST_GAP} of the facts had been removed",
        )

    def _given_away(self, evaluation: Evaluation, forget: Sequence[Split]) -> MetricValue | None:
        """Share of the evaluated facts that follow from what the attack was told, the same for every model."""
        found = evaluation.seen(self.attack, "edited")
        if not found or "overlap" not in found[0]:
            return None
        rows, follows = found[0]["rows"], found[0]["overlap"].astype(np.float64)
        parts = []
        for split in forget:
            asked = np.isin(rows, split.rows)
            parts.append(Part(follows[asked], evaluation.probes.cluster[rows[asked]]))
        return measured(mean_reading(parts, evaluation.bootstrap, proportion=True), UNIT, "lower")

    def _retained(self, evaluation: Evaluation) -> MetricValue:
        splits = splits_of(evaluation.probes, "retain/unseen")
        parts = {role: self._parts(evaluation, role, splits) for role in ROLES}
        if not parts["edited"]:
            return skipped(UNIT, "higher", why_empty(evaluation.probes, "retain/unseen"))
        return self._value(evaluation, parts, "higher", proportion=True)

    def _parts(self, evaluation: Evaluation, role: Role, splits: Sequence[Split], gained: bool = False) -> list[Part]:
        """Knowledge after the attack, or what it gained, of each item that was asked: one part for each split."""
        found = evaluation.seen(self.attack, role)
        if not found:
            return []
        parts = []
        for split in splits:
            asked = np.isin(split.rows, found[0]["rows"])
            rows, answer = split.rows[asked], split.answer[asked]
            values = np.mean([self._known(arrays, rows, answer) for arrays in found], axis=0)
            if gained:
                values = values - _knowledge(evaluation, role, rows, answer)
            if len(rows):
                parts.append(Part(values, evaluation.probes.cluster[rows]))
        return parts

    def _before(self, evaluation: Evaluation, role: Role, splits: Sequence[Split]) -> list[Part]:
        """Knowledge before the attack, of the same items."""
        found = evaluation.seen(self.attack, "edited")
        parts = []
        for split in splits:
            asked = np.isin(split.rows, found[0]["rows"])
            rows, answer = split.rows[asked], split.answer[asked]
            if role in evaluation.predictions and len(rows):
                parts.append(Part(_knowledge(evaluation, role, rows, answer), evaluation.probes.cluster[rows]))
        return parts

    def _known(self, arrays: Arrays, rows: Ids, answer: Ids) -> Floats:
        """Knowledge of each row under attack: mean over the tries, or the best of them."""
        place = np.searchsorted(arrays["rows"], rows)
        tries = np.stack(
            [
                _correct(Predictions(logps, greedy, np.full(len(greedy), -np.inf, dtype=np.float32)), place, answer)
                for logps, greedy in zip(arrays["candidate_logps"], arrays["greedy"], strict=True)
            ]
        )
        found: Floats = tries.mean(0) if self.over_tries == "mean" else tries.max(0)
        return found


def _knowledge(evaluation: Evaluation, role: Role, rows: Ids, answer: Ids) -> Floats:
    """Knowledge of each row without attack, averaged over the role's models."""
    return np.mean([_correct(model, rows, answer) for model in evaluation.predictions[role]], axis=0)


def _correct(predictions: Predictions, rows: Ids, answer: Ids) -> Floats:
    return CandidateAccuracy().items(predictions, rows, answer)


def _ratio(means: Floats) -> Floats:
    """Mean of the gains over mean of the gaps, of means [..., 2 K] that hold K gains and then K gaps."""
    gains, gaps = np.split(means, 2, axis=-1)
    gap = gaps.mean(-1)
    return np.divide(gains.mean(-1), gap, out=np.full(gap.shape, np.nan), where=np.abs(gap) >= LEAST_GAP / 2)
