"""Does an earlier block still hold the answer? The logit lens as an attack.

nostalgebraist 2020; Patil et al. 2023 (arXiv 2309.17410): head projection with the k = 4 first and last candidates of
every layer; Lucki et al. 2024 (arXiv 2409.18025); the erasure score as the logit-lens baseline of Lee et al. 2026
(arXiv 2605.24614). Departures: candidates are the relation's objects, not the vocabulary; whole objects are scored;
only the residual stream is decoded, not the output of attention or MLP alone; no probability-delta attack. Trap: in a
model of two blocks a fact may be formed in the last one only, and the lens then sees no more than the output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from unlearn_cli.component import Count, component
from unlearn_cli.evaluation import Arrays, Evaluation, Floats, MetricValue, Predictions, Role
from unlearn_cli.metrics.attack import AttackMetric
from unlearn_cli.metrics.candidate_accuracy import CandidateAccuracy
from unlearn_cli.metrics.probing import ROLES, splits_of
from unlearn_cli.metrics.readings import mean_reading, measured, skipped
from unlearn_cli.observations.base import Observation
from unlearn_cli.observations.lens import Decoder, Lens
from unlearn_cli.statistics import Part

LEAST_GAP = 0.05  # nats by which gold must be less sure of a fact than the base for a layer to count


@component
class LogitLens(AttackMetric):
    """Candidate accuracy on requested facts behind the block that does best on their tune slice, on the others; 0 to 1.

    Besides the values of every attack: /layer_<l>, accuracy behind block l; /first_layer, mean first block that puts
    the object first, of the facts with one; /erasure, 0 (as sure of the facts as the base, behind every block) to 1 (no
    surer than gold), skipped without gold; /candidate_set, share of objects among the k first or last of any block, and
    /candidate_set_size, the share of all objects in these sets, which is its chance level.
    """

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "logit_lens"

    decoder: Decoder = "own"  # whose final norm and output layer read the states
    k: Count = 4  # first and last candidates of each block in the candidate set

    @property
    def label(self) -> str:
        """`logit_lens`, or `logit_lens_base` with the base's decoder."""
        return self.name if self.decoder == "own" else f"{self.name}_{self.decoder}"

    @property
    def attack(self) -> Observation:
        """The lens."""
        return Lens(decoder=self.decoder)

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """The attack's values, and `/<layer_l|first_layer|erasure|candidate_set|candidate_set_size>`."""
        values = dict(super().compute(evaluation))
        if f"{self.label}/forget" not in values:
            return values
        read = {role: [_Asked(arrays, evaluation) for arrays in evaluation.seen(self.attack, role)] for role in ROLES}
        more = {f"layer_{n + 1}": self._share(evaluation, read, n) for n in range(read["edited"][0].layers)}
        more |= {
            "first_layer": self._first(evaluation, read),
            "erasure": self._erasure(evaluation, read),
            "candidate_set": self._set(evaluation, read, "share of facts"),
            "candidate_set_size": self._set(evaluation, read, "share of objects"),
        }
        return values | {f"{self.label}/{name}": value for name, value in more.items()}

    def _share(self, evaluation: Evaluation, read: Mapping[Role, Sequence[_Asked]], layer: int) -> MetricValue:
        parts = {role: _mean([model.right(layer) for model in models], models) for role, models in read.items()}
        found = {role: mean_reading(part, evaluation.bootstrap, proportion=True) for role, part in parts.items()}
        return measured(found["edited"], "share", "to_gold", base=found["base"], gold=found["gold"])

    def _first(self, evaluation: Evaluation, read: Mapping[Role, Sequence[_Asked]]) -> MetricValue:
        found = {}
        for role, models in read.items():
            parts = [model.first() for model in models[:1]]
            found[role] = mean_reading([part for part in parts if len(part.values)], evaluation.bootstrap)
        never = "no block puts the old object of a requested fact first"
        return measured(found["edited"], "block", "to_gold", base=found["base"], gold=found["gold"], undefined=never)

    def _erasure(self, evaluation: Evaluation, read: Mapping[Role, Sequence[_Asked]]) -> MetricValue:
        if not read["gold"] or not read["base"]:
            return skipped("share", "higher", "there is no gold or no base to compare with")
        sure = [
            part
            for role in ("base", "edited", "gold")
            for part in _layered([model.sure for model in read[role]], read[role])
        ]
        return measured(
            mean_reading(sure, evaluation.bootstrap, combine=erasure),
            "share",
            "higher",
            undefined=f"behind no block is the base surer of the facts than gold by {LEAST_GAP} nats",
        )

    def _set(self, evaluation: Evaluation, read: Mapping[Role, Sequence[_Asked]], unit: str) -> MetricValue:
        number = 0 if unit == "share of facts" else 1
        found = {}
        for role, models in read.items():
            values = [model.candidate_set(self.k)[number] for model in models]
            found[role] = mean_reading(_mean(values, models), evaluation.bootstrap, proportion=number == 0)
        direction = "to_gold" if number == 0 else "descriptive"
        return measured(found["edited"], unit, direction, base=found["base"], gold=found["gold"])  # type: ignore[arg-type]


class _Asked:
    """What the lens shows of the requested facts in one model."""

    def __init__(self, arrays: Arrays, evaluation: Evaluation) -> None:
        (split,) = splits_of(evaluation.probes, "forget")
        inside = np.isin(split.rows, arrays["rows"])
        self.answer, rows = split.answer[inside], split.rows[inside]
        self.cluster = evaluation.probes.cluster[rows]
        self.logps = arrays["layer_logps"][:, np.searchsorted(arrays["rows"], rows)]  # [L, n, O]

    @property
    def layers(self) -> int:
        return len(self.logps)

    @property
    def sure(self) -> Floats:
        """Log-probability of the old object behind every block [L, n]."""
        own: Floats = self.logps[:, np.arange(len(self.answer)), self.answer].astype(np.float64)
        return own

    def right(self, layer: int) -> Floats:
        """Candidate accuracy behind a block [n]."""
        nothing = np.full(len(self.answer), -np.inf, dtype=np.float32)
        answers = Predictions(self.logps[layer], self.logps[layer].argmax(1), nothing)
        return CandidateAccuracy().items(answers, np.arange(len(self.answer)), self.answer)

    def first(self) -> Part:
        """The first block, from 1, that puts the object in front of all others, of the facts with one."""
        front = np.stack([self.right(layer) == 1 for layer in range(self.layers)])
        there = front.any(axis=0)
        return Part(1.0 + front.argmax(axis=0)[there], self.cluster[there])

    def candidate_set(self, k: int) -> tuple[Floats, Floats]:
        """Whether the object is in the set [n], and the set's size as a share of the relation's objects [n]."""
        inside = np.any([extremes(logps, k) for logps in self.logps], axis=0)
        hit = inside[np.arange(len(self.answer)), self.answer]
        return hit.astype(np.float64), inside.sum(1) / np.isfinite(self.logps[0]).sum(1)


def extremes(logps: NDArray[np.float32], k: int) -> NDArray[np.bool_]:
    """Whether each candidate of logps [n, O] is one of the k most or k least probable; -inf is no candidate."""
    real = np.isfinite(logps)
    place = (-logps).argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    return real & ((place < k) | (place >= real.sum(axis=1, keepdims=True) - k))


def erasure(means: Floats) -> Floats:
    """Erasure score of mean log-probabilities [..., 3 L]: the base's, the edited model's and gold's behind L blocks.

    Mean over the blocks with a gap base - gold above LEAST_GAP of clip((base - edited) / gap, 0, 1), weighted by the
    gap; NaN where there is none.
    """
    base, edited, gold = np.split(means, 3, axis=-1)
    gap = base - gold
    gap = np.where(gap > LEAST_GAP, gap, 0.0)
    gone = np.minimum(np.maximum(base - edited, 0.0), gap)  # clip(x / gap, 0, 1) * gap
    total = gap.sum(-1)
    return np.divide(gone.sum(-1), total, out=np.full(total.shape, np.nan), where=total > 0)


def _mean(values: Sequence[Floats], models: Sequence[_Asked]) -> list[Part]:
    return [Part(np.mean(values, axis=0), models[0].cluster)] if models else []


def _layered(values: Sequence[Floats], models: Sequence[_Asked]) -> list[Part]:
    return [Part(row, models[0].cluster) for row in np.mean(values, axis=0)]
