"""Does it come back by training on something else? Benign relearning (Hu et al. 2024, arXiv 2406.13356)."""

from __future__ import annotations

from typing import ClassVar

from unlearn_cli.component import Count, Positive, component
from unlearn_cli.metrics.attack import AttackMetric, Budget
from unlearn_cli.observations.base import Observation
from unlearn_cli.observations.relearned import Relearned, RelearnSet

STEPS: dict[Budget, int] = {"small": 20, "paper": 200}
SEEDS: dict[Budget, int] = {"small": 1, "paper": 3}


@component
class Relearn(AttackMetric):
    """Accuracy on requested facts after fine-tuning a copy on `n` facts that do not say them.

    At a learning rate of 1e-3 the attack itself makes small models forget: read `/retain` beside it.
    """

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "relearn"

    facts: RelearnSet = "retain_only"
    n: Count = 50
    lr: Positive = 3e-4
    steps: Count | None = None  # null: 20 with a small budget, 200 with the paper's
    seeds: Count | None = None  # null: 1 or 3
    budget: Budget = "small"

    @property
    def label(self) -> str:
        """`relearn_<facts>`."""
        return f"{self.name}_{self.facts}"

    @property
    def attack(self) -> Observation:
        """Relearning within the budget."""
        steps, seeds = self.steps or STEPS[self.budget], self.seeds or SEEDS[self.budget]
        return Relearned(facts=self.facts, n=self.n, lr=self.lr, steps=steps, seeds=seeds)
