"""Does it come back behind examples? Few-shot prompting.

Lynch et al. 2024 (arXiv 2402.16835); Doshi & Stickland 2024 (arXiv 2411.12103), who report five shots. Trap: examples
also teach the format, hence the excess over gold; and a model that was trained on single sentences reads no examples.
"""

from __future__ import annotations

from typing import ClassVar

from unlearn_cli.component import Count, component
from unlearn_cli.metrics.attack import Budget
from unlearn_cli.metrics.prompt_attack import ROWS, PromptAttack
from unlearn_cli.observations.base import Observation
from unlearn_cli.observations.shown import Shown, ShownPool


@component
class FewShot(PromptAttack):
    """Accuracy on requested facts behind `shots` other facts; without any it is `candidate_accuracy/forget`."""

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "fewshot"

    pool: ShownPool = "same_relation"
    shots: Count = 5
    rows: Count | None = None  # most prompts of a split; null: 200 with a small budget, 1000 with the paper's
    budget: Budget = "small"

    @property
    def label(self) -> str:
        """`fewshot_<pool>_<shots>`."""
        return f"{self.name}_{self.pool}_{self.shots}"

    @property
    def attack(self) -> Observation:
        """The examples within the budget."""
        return Shown(pool=self.pool, shots=self.shots, rows=self.rows or ROWS[self.budget])
