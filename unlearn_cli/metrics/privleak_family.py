"""How far each membership attack's success is from gold's, relative to it, and one score of all of them.

rel_diff = 100 (AUC - AUC_gold) / AUC_gold has the opposite sign of PrivLeak: positive means that membership shows.
s = 1 - min(|AUC - AUC_gold| / AUC_gold, 1), as coded by the authors of the Unlearning Depth Score; the score is the
harmonic mean of s over the attacks, OpenUnlearning's way of aggregating (Dorna et al. 2025, arXiv 2506.12618), whose
own closed form of s could not be checked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from unlearn_cli.component import component
from unlearn_cli.evaluation import Evaluation, Floats, MetricValue, Role
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.mia_loss import MiaLoss
from unlearn_cli.metrics.mia_min_k import MiaMinK
from unlearn_cli.metrics.mia_min_k_pp import MiaMinKPP
from unlearn_cli.metrics.mia_zlib import MiaZlib
from unlearn_cli.metrics.privleak import Areas, areas, undefined
from unlearn_cli.metrics.readings import measured, skipped
from unlearn_cli.metrics.roc import Statistic
from unlearn_cli.metrics.token_attack import TokenAttack
from unlearn_cli.metrics.token_metric import Scope
from unlearn_cli.observations.base import Observation
from unlearn_cli.observations.token_scores import TokenScores

Attack = Literal["loss", "zlib", "min_k", "min_k_pp"]
MAKE: Mapping[Attack, Callable[..., TokenAttack]] = {
    "loss": MiaLoss,
    "zlib": MiaZlib,
    "min_k": MiaMinK,
    "min_k_pp": MiaMinKPP,
}


@component
class PrivleakFamily(Metric):
    """`/<attack>`: rel_diff in per cent, 0 ideal, -100 at worst below; `/score`: 0 to 1, 1 ideal.

    Undefined where gold's area is 0.
    """

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "privleak_family"
    needs: ClassVar[frozenset[Role]] = frozenset({"edited", "gold"})

    scope: Scope = "answer"
    attacks: Annotated[list[Attack], Field(min_length=1)] = Field(default=["loss", "zlib", "min_k", "min_k_pp"])

    @property
    def observations(self) -> tuple[Observation, ...]:
        """Every token of the sentences."""
        return (TokenScores(),)

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`privleak_family/<attack>` and `/score`."""
        found = {name: areas(evaluation, MAKE[name](scope=self.scope)) for name in self.attacks}
        reason = next(filter(None, map(undefined, found.values())), None)
        if not reason and any(area["gold"].value == 0 for area in found.values()):
            reason = "gold's area is 0"
        if reason:
            return {f"{self.name}/{key}": skipped("", "to_gold", reason) for key in (*self.attacks, "score")}
        values = {key: self._relative(evaluation, area) for key, area in found.items()}
        return {f"{self.name}/{key}": value for key, value in values.items()} | {
            f"{self.name}/score": self._score(evaluation, list(found.values()))
        }

    def _relative(self, evaluation: Evaluation, area: Areas) -> MetricValue:
        read = {
            role: _combined(_shares, [mine], [area["gold"]], 100).reading(evaluation.bootstrap)
            for role, mine in area.items()
        }
        return measured(read["edited"], "%", "to_gold", base=read.get("base"), gold=read["gold"])

    def _score(self, evaluation: Evaluation, found: list[Areas]) -> MetricValue:
        gold = [area["gold"] for area in found]
        read = {
            role: _combined(_score, [area[role] for area in found], gold).reading(evaluation.bootstrap)
            for role in found[0]
        }
        return measured(read["edited"], "score", "higher", base=read.get("base"), gold=read["gold"])


def _combined(
    combine: Callable[[Floats, Floats], Floats], mine: list[Statistic], gold: list[Statistic], scale: float = 1.0
) -> Statistic:
    """`combine` of the areas [A, ...] of A attacks and gold's, of the values and of every resample."""
    with np.errstate(divide="ignore", invalid="ignore"):
        value = combine(np.array([s.value for s in mine]), np.array([s.value for s in gold]))
        draws = combine(np.stack([s.draws for s in mine]), np.stack([s.draws for s in gold]))
    return Statistic(float(scale * value), scale * draws, mine[0].items, mine[0].clusters)


def _shares(mine: Floats, gold: Floats) -> Floats:
    shares: Floats = (mine[0] - gold[0]) / gold[0]
    return shares


def _score(mine: Floats, gold: Floats) -> Floats:
    """Harmonic mean over attacks, 0 as soon as one is 0."""
    each = 1 - np.minimum(np.abs(mine - gold) / gold, 1)
    mean: Floats = np.where((each > 0).all(0), len(each) / (1 / np.maximum(each, 1e-300)).sum(0), 0.0)
    return mean
