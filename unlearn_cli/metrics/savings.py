"""How much faster is it learnt again than by a model that never knew it? Savings (Ebbinghaus 1885).

Anamnesis index AIN = t_edited / t_gold (Chundawat et al. 2022, arXiv 2201.05629). Departures: steps until a recall that
is the same for all models instead of the base's accuracy less alpha; as many retain facts are taught beside; zero steps
count as zero. On small worlds this is the most sensitive reading: methods whose accuracy is gold's relearn up to three
times as fast. Trap: slower than gold is damage, not deeper forgetting.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from unlearn_cli.component import Count, Fraction, Positive, component
from unlearn_cli.evaluation import Evaluation, MetricValue, Reading, Role
from unlearn_cli.metrics.attack import Budget
from unlearn_cli.metrics.base import Metric
from unlearn_cli.metrics.probing import ROLES, correct, scored, splits_of, why_empty
from unlearn_cli.metrics.readings import mean_reading, measured, skipped
from unlearn_cli.observations.base import Observation
from unlearn_cli.observations.retaught import Retaught

STEPS: dict[Budget, int] = {"small": 60, "paper": 400}
SEEDS: dict[Budget, int] = {"small": 1, "paper": 3}


@component
class Savings(Metric):
    """Steps of fine-tuning until the requested facts are recalled, and their ratio to gold's.

    /ratio: 1 is ideal, 0 still knows, below 1 remembers, above 1 was damaged. A model that does not get there within
    the limit counts with the limit, which the reason says. /retain is recall of what must not change, before the
    attack.
    """

    VERSION: ClassVar[int] = 1
    needs: ClassVar[frozenset[Role]] = frozenset({"edited"})
    name: ClassVar[str] = "savings"

    recall: Fraction = 0.9  # of the requested facts, at which teaching stops
    lr: Positive = 1e-4  # AdamW's learning rate
    steps: Count | None = None  # at most; null: 60 with a small budget, 400 with the paper's
    seeds: Count | None = None  # orders of teaching; null: 1 or 3
    budget: Budget = "small"

    @property
    def attack(self) -> Retaught:
        """Teaching within the budget."""
        steps, seeds = self.steps or STEPS[self.budget], self.seeds or SEEDS[self.budget]
        return Retaught(recall=self.recall, lr=self.lr, steps=steps, seeds=seeds)

    @property
    def observations(self) -> tuple[Observation, ...]:
        """The teaching."""
        return (self.attack,)

    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """`savings/<steps|ratio|start|retain>`."""
        steps, start = ({role: self._mean(evaluation, role, name) for role in ROLES} for name in ("steps", "start"))
        return {
            "savings/steps": measured(
                steps["edited"],
                "steps",
                "to_gold",
                base=steps["base"],
                gold=steps["gold"],
                reason=self._late(evaluation),
            ),
            "savings/ratio": self._ratio(evaluation, steps),
            "savings/start": measured(start["edited"], "share", "to_gold", base=start["base"], gold=start["gold"]),
            "savings/retain": _retained(evaluation),
        }

    def _mean(self, evaluation: Evaluation, role: Role, name: str) -> Reading | None:
        """Mean over models and seeds; n counts the runs."""
        found = [np.atleast_1d(arrays[name]) for arrays in evaluation.seen(self.attack, role)]
        return Reading(float(np.mean(found)), int(np.size(found))) if found else None

    def _censored(self, evaluation: Evaluation, role: Role) -> int:
        """Runs that did not get there."""
        return sum(int((~arrays["reached"]).sum()) for arrays in evaluation.seen(self.attack, role))

    def _late(self, evaluation: Evaluation) -> str | None:
        """Whose number of steps is only a lower bound."""
        late = [role for role in ROLES if self._censored(evaluation, role)]
        return f"recall {self.recall:g} not reached in {self.attack.steps} steps: {', '.join(late)}" if late else None

    def _ratio(self, evaluation: Evaluation, steps: Mapping[Role, Reading | None]) -> MetricValue:
        mine, gold = steps["edited"], steps["gold"]
        late, gold_late = self._censored(evaluation, "edited"), self._censored(evaluation, "gold")
        if mine is None or gold is None:
            return skipped("ratio", "to_gold", "there is no gold model to compare with")
        if gold.value == 0:
            return skipped(
                "ratio", "to_gold", f"gold recalls {self.recall:g} of the requested facts without being taught"
            )
        if late and gold_late:
            return skipped("ratio", "to_gold", f"neither model got there in {self.attack.steps} steps")
        bound = "a lower bound" if late else "an upper bound"
        reason = f"{bound}: {self._late(evaluation)}" if late or gold_late else None
        base = steps["base"]
        return measured(
            Reading(mine.value / gold.value, mine.n),
            "ratio",
            "to_gold",
            base=None if base is None else Reading(base.value / gold.value, base.n),
            gold=Reading(1.0, gold.n),
            reason=reason,
        )


def _retained(evaluation: Evaluation) -> MetricValue:
    splits = splits_of(evaluation.probes, "retain/unseen")
    if not splits:
        return skipped("share", "higher", why_empty(evaluation.probes, "retain/unseen"))
    read = {
        role: mean_reading(scored(evaluation, role, splits, correct), evaluation.bootstrap, proportion=True)
        for role in ROLES
    }
    return measured(read["edited"], "share", "higher", base=read["base"], gold=read["gold"])
