"""How deep is a fact gone? The Unlearning Depth Score by activation patching (Lee et al. 2026, arXiv 2605.24614).

Drop behind block l: Delta_l = log-probability of the old object in the base less that in the base with the source's
states there. Blocks with knowledge: KE = {l: Delta_l(gold) > tau}. UDS = sum_KE Delta_l(gold) clip(Delta_l(edited) /
Delta_l(gold), 0, 1) / sum_KE Delta_l(gold), of each item, then the mean. Published: tau 0.05; 367 facts of TOFU; over
150 models it tells models with the knowledge from those without with an AUC of 0.971. Departure: gold's drop is
averaged over the golds. Trap: blocks before the edited ones have no drop and lower the score, as they should.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from unlearn_cli.component import Positive, component
from unlearn_cli.evaluation import Arrays, Direction, Evaluation, Floats, MetricValue, Reading, Role
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.readings import mean_reading, measured, skipped, with_items
from unlearn_cli.observations.base import Observation
from unlearn_cli.observations.patched import Patched
from unlearn_cli.statistics import Part

NAME = "activation_patching"


@component
class ActivationPatching(Metric):
    """/uds, 0 (as in the base) to 1 (gone as deep as in gold), over items that some block knows.

    /skipped, share of items that no block knows; /drop_<l>, mean Delta_l, nats, with gold's beside it; /restored_<l>,
    geometric mean probability of the old object's tokens when the base's states behind block l are put into the model:
    how much of the answer the blocks above still read; beside it the base's own probability.
    """

    VERSION: ClassVar[int] = 1
    needs: ClassVar[frozenset[Role]] = frozenset({"base", "edited"})

    tau: Positive = 0.05  # nats by which gold's states must lower the answer for a block to count

    @property
    def observations(self) -> tuple[Observation, ...]:
        """Patched runs."""
        return (Patched(),)

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`activation_patching/<uds|skipped|drop_1|...|restored_1|...>`."""
        edited, gold = (evaluation.seen(Patched(), role) for role in ("edited", "gold"))
        rows = edited[0]["rows"]
        cluster = evaluation.probes.cluster[rows]

        def read(values: Floats | None, share: bool = False) -> Reading | None:
            if values is None:
                return None
            return mean_reading([Part(values, cluster)], evaluation.bootstrap, proportion=share)

        def value(name: str, layer: int, direction: Direction, base: Floats | None = None) -> MetricValue:
            mine, theirs = (_layer(found, name, layer) for found in (edited, gold))
            unit = "nats" if name == "patched" else "probability"
            return measured(read(mine), unit, direction, base=read(base), gold=read(theirs))

        values = self._score(evaluation, edited, gold)
        known = np.exp(edited[0]["base"].astype(np.float64))
        for layer in range(len(edited[0]["patched"])):
            values[f"{NAME}/drop_{layer + 1}"] = value("patched", layer, "to_gold")
            values[f"{NAME}/restored_{layer + 1}"] = value("restored", layer, "to_gold", base=known)
        return values

    def _score(
        self, evaluation: Evaluation, edited: Sequence[Arrays], gold: Sequence[Arrays]
    ) -> dict[str, MetricValue]:
        if not gold:
            why = "there is no gold model, whose states say which blocks know the facts"
            return {f"{NAME}/uds": skipped("share", "higher", why)}
        theirs = np.mean([drops(arrays) for arrays in gold], axis=0)
        score, there = depth(drops(edited[0]), theirs, self.tau)
        rows = edited[0]["rows"]
        cluster = evaluation.probes.cluster[rows]
        parts = [Part(score[there], cluster[there])] if there.any() else []
        nobody = f"gold's states lower no answer by {self.tau} nats"
        value = measured(mean_reading(parts, evaluation.bootstrap), "share", "higher", undefined=nobody)
        without = mean_reading([Part((~there).astype(np.float64), cluster)], evaluation.bootstrap, proportion=True)
        return {
            f"{NAME}/uds": with_items(value, {"edited": parts}, rows[there]) if value.edited else value,
            f"{NAME}/skipped": measured(without, "share", "descriptive"),
        }


def drops(arrays: Arrays) -> Floats:
    """Delta [L, n] of one model's states in the base."""
    found: Floats = arrays["base"].astype(np.float64) - arrays["patched"]
    return found


def depth(edited: Floats, gold: Floats, tau: float) -> tuple[Floats, NDArray[np.bool_]]:
    """The score of each item [n] from drops [L, n], and whether it has one."""
    weight = np.where(gold > tau, gold, 0.0)
    there = weight.sum(axis=0) > 0
    gone = np.minimum(np.maximum(edited, 0.0), weight).sum(axis=0)  # weight * clip(edited / gold, 0, 1)
    return np.divide(gone, weight.sum(axis=0), out=np.zeros(len(there)), where=there), there


def _layer(found: Sequence[Arrays], name: str, layer: int) -> Floats | None:
    """Drops, or probabilities, behind one block [n], averaged over models."""
    if not found:
        return None
    if name == "patched":
        return np.mean([drops(arrays)[layer] for arrays in found], axis=0)
    return np.mean([np.exp(arrays[name][layer].astype(np.float64)) for arrays in found], axis=0)
