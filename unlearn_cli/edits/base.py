"""What every edit is: a recipe that picks facts of a world and says what becomes of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import numpy as np

from unlearn_cli.component import Count, Natural, Positive, component
from unlearn_cli.worlds.base import WorldData
from unlearn_cli.worlds.request import EditRequest

# The kinds of edits, which methods declare whether they take.
FORGETTING = frozenset({"forget"})  # no target: as if never trained on
CHANGING = frozenset(  # a target for each fact
    {
        "remap",
        "remap_same",
        "collapse",
        "permute",
        "refuse",
        "refuse_qa",
        "promote_minority",
        "suppress_minority",
        "restore",
    }
)
EVERY = FORGETTING | CHANGING

Schedule = Literal["batch", "sequential", "independent"]  # all facts at once, or one by one (schedule.py)


@component
class Corruption:
    """How a trained base is taught wrong objects for the requested facts before it is edited."""

    steps: Count = 100
    lr: Positive = 3e-4
    unrelated: Natural = 1000  # right facts mixed in, from those that must not change
    unrelated_batch: Count = 50


class Edit(ABC):
    """Resolve to a request. `op` names the kind."""

    VERSION: ClassVar[int]
    op: ClassVar[str]
    schedule: Schedule

    @abstractmethod
    def resolve(self, world: WorldData, rng: np.random.Generator) -> EditRequest:
        """Pick the facts; a ConfigError if the world cannot offer them."""

    def corrupts(self) -> Corruption | None:
        """How the base is taught the old objects first; None: it is edited as it was trained."""
        return None
