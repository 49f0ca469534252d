"""Does it come back behind a soft prompt? Universal embedding attack (Schwinn et al. 2024, arXiv 2402.09063).

Published: 20 tokens, signed gradient steps of 1e-3, 100 and more of them. Departures: steps in units of the
embeddings' root mean square; trained on true objects of the tune slice, and the step with the lowest loss kept; before
the question; no attack on single facts, which can force any answer. Trap: what the prompt teaches counts as recovered,
unless gold, attacked alike, gains as much.
"""

from __future__ import annotations

from typing import ClassVar

from unlearn_cli.component import Count, Positive, component
from unlearn_cli.metrics.attack import AttackMetric, Budget
from unlearn_cli.observations.base import Observation
from unlearn_cli.observations.soft_prompted import SoftPrompted

STEPS: dict[Budget, int] = {"small": 40, "paper": 500}


@component
class EmbeddingAttack(AttackMetric):
    """Accuracy on requested facts behind a soft prompt that was trained on others of them."""

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "embedding_attack"

    tokens: Count = 4  # of the soft prompt
    lr: Positive = 0.05  # of each coordinate, in units of the embeddings' root mean square
    steps: Count | None = None  # null: 40 with a small budget, 500 with the paper's
    budget: Budget = "small"

    @property
    def attack(self) -> Observation:
        """The soft prompt within the budget."""
        return SoftPrompted(tokens=self.tokens, lr=self.lr, steps=self.steps or STEPS[self.budget])
