"""What a model knows of a fact that it would not know without it: counterfactual memorisation.

Feldman 2019 (arXiv 1906.05271); Zhang et al. 2021 (arXiv 2112.12938): mem(x) = mean M over models that were taught x -
mean M over models that were not, estimated with models on random halves. The residual takes the evaluated model's M in
the first place: what is left of the memory after unlearning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from unlearn_cli.component import component
from unlearn_cli.evaluation import Direction, Evaluation, Floats, Ids, MetricValue, Predictions, Role, Split
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.probing import ROLES, correct, splits_of, why_empty
from unlearn_cli.metrics.readings import mean_reading, measured, skipped, with_items
from unlearn_cli.metrics.shadowed import inside, logps, mean_where, scores_of, variance_where
from unlearn_cli.statistics import Part

ASKED: Mapping[str, Direction] = {"forget": "to_gold", "holdout": "to_gold", "retain/unseen": "higher"}


@component
class CounterfactualMemorization(Metric):
    """`/<split>`: residual M(model) - mean M of shadows without the fact, -1 to 1; 0: nothing is left.

    `/memorized`: mem of the requested facts, a property of world and recipe, the same for every method; `/error`: the
    mean standard error of an item's mem, sqrt(var_in / n_in + var_out / n_out), from the number of shadows.
    """

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "counterfactual_memorization"
    needs: ClassVar[frozenset[Role]] = frozenset({"edited", "shadow"})

    k: Annotated[int, Field(ge=4, multiple_of=2)] = 16
    measure: Literal["accuracy", "probability"] = "accuracy"

    @property
    def shadows(self) -> int:
        """K."""
        return self.k

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`counterfactual_memorization/<forget|holdout|retain/unseen|memorized|error>`."""
        values = {name: self._residual(evaluation, name, direction) for name, direction in ASKED.items()}
        values["memorized"] = self._of_shadows(evaluation, self._memorized)
        values["error"] = self._of_shadows(evaluation, self._error)
        return {f"{self.name}/{key}": value for key, value in values.items()}

    def _residual(self, evaluation: Evaluation, name: str, direction: Direction) -> MetricValue:
        splits = splits_of(evaluation.probes, name)
        if not splits:
            return skipped("difference", direction, why_empty(evaluation.probes, name))
        parts = {role: self._left(evaluation, role, splits) for role in ROLES}
        read = {role: mean_reading(found, evaluation.bootstrap) for role, found in parts.items()}
        value = measured(read["edited"], "difference", direction, base=read["base"], gold=read["gold"])
        return with_items(value, parts, splits[0].rows) if name in evaluation.probes.splits else value

    def _left(self, evaluation: Evaluation, role: Role, splits: Sequence[Split]) -> list[Part]:
        parts = []
        for split in splits if evaluation.predictions.get(role) else ():
            shadows, taught = self._shadows(evaluation, split.rows)
            mine = scores_of(evaluation, role, split.rows, self._measure).mean(0)
            left = mine - mean_where(shadows, ~taught)
            parts.append(Part(left, evaluation.probes.cluster[split.rows]))
        return parts

    def _of_shadows(self, evaluation: Evaluation, of: Callable[[Floats, np.ndarray], Floats]) -> MetricValue:
        splits = splits_of(evaluation.probes, "forget")
        if not splits:
            return skipped("difference", "descriptive", why_empty(evaluation.probes, "forget"))
        rows = splits[0].rows
        part = Part(of(*self._shadows(evaluation, rows)), evaluation.probes.cluster[rows])
        return measured(mean_reading([part], evaluation.bootstrap), "difference", "descriptive")

    def _shadows(self, evaluation: Evaluation, rows: Ids) -> tuple[Floats, np.ndarray]:
        """M of each shadow [K, n], and whether it was taught the fact."""
        return scores_of(evaluation, "shadow", rows, self._measure)[: self.k], inside(evaluation, rows)[: self.k]

    @staticmethod
    def _memorized(shadows: Floats, taught: np.ndarray) -> Floats:
        return mean_where(shadows, taught) - mean_where(shadows, ~taught)

    @staticmethod
    def _error(shadows: Floats, taught: np.ndarray) -> Floats:
        both = [variance_where(shadows, chosen) / chosen.sum(0) for chosen in (taught, ~taught)]
        error: Floats = np.sqrt(both[0] + both[1])
        return error

    def _measure(self, predictions: Predictions, rows: Ids, answer: Ids) -> Floats:
        if self.measure == "accuracy":
            return correct(predictions, rows, answer)
        return np.exp(logps(predictions, rows, answer))
