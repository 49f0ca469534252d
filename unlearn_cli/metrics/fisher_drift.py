"""Where do the requested facts weigh, and did the edit move what the other facts need? By the diagonal Fisher
information.

F_i(D) = mean over x in D of (dL_x / dtheta_i)^2; half the sum of F_i (dtheta_i)^2 is the loss that a small change of
the weights adds (Kirkpatrick et al. 2017, arXiv 1612.00796). Importance of D_f relative to D_r as in Foster et al.
2023 (SSD, arXiv 2308.07707). The erasure form of Lee et al. 2026 is not computed. Trap: at a memorised fact the
gradient, and with it the empirical Fisher information, is near 0; gold comes from other initial weights, so nothing is
compared with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from unlearn_cli.component import Count, Fraction, component
from unlearn_cli.evaluation import Arrays, Direction, Evaluation, MetricValue, Reading, Role
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.readings import measured
from unlearn_cli.observations.base import Observation
from unlearn_cli.observations.fisher_information import FisherInformation

NAME = "fisher_drift"
UNCHANGED = "no weight changed, or no gradient is left"


@component
class FisherDrift(Metric):
    """Sums over all weights; none has an interval, since sums over weights have no items to resample.

    /importance, F(requested) / F(retain) in total, base and gold beside it, and /importance/<outside|layer>;
    /move/retain and /move/forget, loss in nats that the quadratic model says the edit added; /drift, 1 - cosine of the
    base's and the edited model's diagonal of requested facts, 0 to 1; /overlap, Jaccard index of the weights that
    matter most to requested facts in the base and those that changed most; /overlap_chance, its value at random.
    """

    VERSION: ClassVar[int] = 1
    needs: ClassVar[frozenset[Role]] = frozenset({"base", "edited"})

    n: Count = 128  # sentences about requested facts, and as many about retain facts
    top: Fraction = 0.01  # share of weights that count as the most important, or the most changed

    @property
    def observations(self) -> tuple[Observation, ...]:
        """Diagonals of the Fisher information."""
        return (FisherInformation(n=self.n, top=self.top),)

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`fisher_drift/<importance...|move/...|drift|overlap|overlap_chance>`."""
        (observation,) = self.observations
        seen = {role: evaluation.seen(observation, role) for role in ("base", "edited", "gold")}
        edited = seen["edited"][0]

        def importance(role: Role, block: int | None) -> Reading | None:
            found = [value for value in (self._importance(a, block) for a in seen[role]) if value is not None]
            return Reading(float(np.mean(found)), self.n) if found else None

        def ratio(block: int | None) -> MetricValue:
            read = [importance(role, block) for role in ("edited", "base", "gold")]
            return measured(read[0], "ratio", "descriptive", base=read[1], gold=read[2], undefined=UNCHANGED)

        def one(value: float, unit: str, direction: Direction = "descriptive") -> MetricValue:
            reading = Reading(float(value), self.n) if np.isfinite(value) else None
            return measured(reading, unit, direction, undefined=UNCHANGED)

        values = {
            "importance": ratio(None),
            "move/retain": one(edited["move_retain"].sum(), "nats", "lower"),
            "move/forget": one(edited["move_forget"].sum(), "nats"),
            "drift": one(1 - edited["cosine"][0], "1 - cosine"),
            "overlap": one(edited["overlap"][0], "Jaccard"),
            "overlap_chance": one(edited["overlap"][1], "Jaccard"),
        }
        for block in range(len(edited["forget"])):
            values[f"importance/{block - 1 if block else 'outside'}"] = ratio(block)
        return {f"{NAME}/{name}": value for name, value in values.items()}

    @staticmethod
    def _importance(arrays: Arrays, block: int | None) -> float | None:
        where = slice(None) if block is None else slice(block, block + 1)
        retain = arrays["retain"][where].sum()
        return float(arrays["forget"][where].sum() / retain) if retain > 0 else None
