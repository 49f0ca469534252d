"""Does it come back by steering the stream towards the base? Difference of means; Lucki et al. 2024 (arXiv
2409.18025).

Published strengths of added directions 1, 2, 4. Departures: one block and one strength, picked on the tune slice on
which the direction is learned; no anonymised prompts and no sampling (Seyitoglu et al. 2024, arXiv 2411.02631). Trap:
an added direction that was fitted on the scored facts would inject answers; gold, steered towards the base by a
direction of its own, shows how much this one does.
"""

from __future__ import annotations

from typing import ClassVar

from unlearn_cli.component import component
from unlearn_cli.metrics.attack import AttackMetric
from unlearn_cli.observations.base import Observation
from unlearn_cli.observations.steered import Kind, Steered


@component
class Steering(AttackMetric):
    """Accuracy on requested facts with the stream steered, in facts that the direction was not learned on."""

    VERSION: ClassVar[int] = 1
    name: ClassVar[str] = "steering"

    kind: Kind = "means"  # add the mean difference to the base, or project its direction out

    @property
    def label(self) -> str:
        """`steering_<kind>`."""
        return f"{self.name}_{self.kind}"

    @property
    def attack(self) -> Observation:
        """The steering."""
        return Steered(kind=self.kind)
