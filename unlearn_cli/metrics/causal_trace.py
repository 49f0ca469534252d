"""Through which states does a fact reach the answer, and did the edit move that? Causal tracing (ROME, arXiv
2202.05262).

Total effect TE = P(clean) - P(corrupted); indirect effect IE[t, l] = P(state t behind block l restored) -
P(corrupted), of the answer; means over prompts that the model answers right. `observations/traced.py` says what
departs. Traps: where TE is small, so is every IE; where a fact is traced to is not where it is best edited (Hase et
al. 2023, arXiv 2301.04213).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from unlearn_cli.component import Count, Positive, component
from unlearn_cli.evaluation import Arrays, Evaluation, Floats, Ids, MetricValue, Reading, Role
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.readings import mean_reading, measured, skipped
from unlearn_cli.observations.base import Observation
from unlearn_cli.observations.traced import GROUPS, Traced
from unlearn_cli.statistics import Part

NAME = "causal_trace"
PLACES = ("subject", "end")


@component
class CausalTrace(Metric):
    """Effects of the base and the edited model, on requested facts and on unseen ones that must not change.

    /te/<group>, probability that the noise takes away; /ie/<group>/<subject|end>_<l>, what restoring the stream at the
    last token of the subject, or of the prompt, behind block l gives back (0: the embedding); /shift/<group>, total
    variation between the two models' indirect effects, each made to add up to 1: 0 the same places to 1.
    """

    VERSION: ClassVar[int] = 1
    needs: ClassVar[frozenset[Role]] = frozenset({"base", "edited"})

    noise: Positive = 3.0  # in standard deviations of the subject tokens' embeddings
    samples: Count = 10  # draws of the noise
    prompts: Count = 50  # of the requested facts, and as many of unseen ones that must not change

    @property
    def observations(self) -> tuple[Observation, ...]:
        """Traces."""
        return (Traced(noise=self.noise, samples=self.samples, prompts=self.prompts),)

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`causal_trace/<te|ie|shift>/<group>[/<place>_<l>]`."""
        (observation,) = self.observations
        base, edited = (evaluation.seen(observation, role)[0] for role in ("base", "edited"))
        values: dict[str, MetricValue] = {}
        for group in GROUPS:
            unknown = f"the model answers none of the prompts of {group}"

            def value(mine: Floats, theirs: Floats, group: str = group, why: str = unknown) -> MetricValue:
                read = self._read(evaluation, mine, edited[f"{group}_rows"])
                start = self._read(evaluation, theirs, base[f"{group}_rows"])
                return measured(read, "probability", "descriptive", base=start, undefined=why)

            (te, ie), (te_base, ie_base) = effects(edited, group), effects(base, group)
            values[f"te/{group}"] = value(te, te_base)
            for number, place in enumerate(PLACES):
                for layer in range(ie.shape[1]):
                    key = f"ie/{group}/{place}_{layer}"
                    values[key] = value(ie[number, layer], ie_base[number, layer])
            moved = shift(ie, ie_base)
            values[f"shift/{group}"] = (
                skipped("total variation", "descriptive", "one of the models has no effect to compare")
                if moved is None
                else measured(Reading(moved, len(te)), "total variation", "descriptive")
            )
        return {f"{NAME}/{name}": value for name, value in values.items()}

    @staticmethod
    def _read(evaluation: Evaluation, values: Floats, rows: Ids) -> Reading | None:
        return (
            mean_reading([Part(values, evaluation.probes.cluster[rows])], evaluation.bootstrap) if len(rows) else None
        )


def effects(arrays: Arrays, group: str) -> tuple[Floats, Floats]:
    """Total effect [n] and indirect effects [2, L + 1, n] of one model."""
    low = arrays[f"{group}_low"].astype(np.float64)
    return arrays[f"{group}_high"] - low, arrays[f"{group}_restored"] - low


def shift(edited: Floats, base: Floats) -> float | None:
    """Total variation between mean indirect effects [2, L + 1, n], negative ones as 0; None without any."""
    if not edited.shape[-1] or not base.shape[-1]:
        return None
    mine, theirs = (np.maximum(effect.mean(-1), 0).ravel() for effect in (edited, base))
    if not mine.sum() or not theirs.sum():
        return None
    return float(np.abs(mine / mine.sum() - theirs / theirs.sum()).sum() / 2)
