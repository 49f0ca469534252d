"""What every metric is: a pure function from an `Evaluation` to named values."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from unlearn_cli.evaluation import Evaluation, MetricValue, Role
from unlearn_cli.observations.base import Observation


class Metric(ABC):
    """A number about models. Reads stored predictions, observations, weights or costs; never trains or generates."""

    VERSION: ClassVar[int]  # raise it when the same inputs would give another number
    needs: ClassVar[frozenset[Role]]  # roles without which it is skipped
    reads_weights: ClassVar[bool] = False  # whether it compares checkpoints: then there must be one edited model

    @property
    def shadows(self) -> int:
        """Shadow models that it reads, at least; `evaluation.membership` says what each was trained on."""
        return 0

    @property
    def unlearned_shadows(self) -> int:
        """How many of its shadows it also reads after the run's method was carried out on them, at least."""
        return 0

    @property
    def observations(self) -> tuple[Observation, ...]:
        """What must be taken from the models beforehand; `evaluation.seen` then has it."""
        return ()

    @abstractmethod
    def compute(self, evaluation: Evaluation) -> Mapping[str, MetricValue]:
        """Return values keyed by full name: `fact_accuracy/edited`, `cost/seconds`."""
