"""What every observation is: a recipe that turns one model into arrays, which metrics then read.

Observations see the models; metrics see numbers only. Two metrics that ask for equal observations share one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from unlearn_cli.evaluation import Arrays, Ids, ProbeSet, Role
from unlearn_cli.worlds.base import WorldData
from unlearn_cli.worlds.request import EditRequest

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from unlearn_cli.machine import Numerics


class Unobservable(Exception):
    """What is asked for does not exist here; its text says why, and the metrics that read it are skipped."""


@dataclass(frozen=True, eq=False)
class Scene:
    """What surrounds a model under observation. The same for every model of a run."""

    world: WorldData
    request: EditRequest
    pool: Ids  # facts of the retain pool, which the method may have used
    probes: ProbeSet
    seed: int
    batch_size: int  # rows in one forward pass; changes nothing beyond rounding
    numerics: Numerics
    beside: Mapping[Role, PreTrainedModel] = field(default_factory=dict)  # the models that `Observation.beside` names


class Observation(ABC):
    """A frozen dataclass of its settings. The model it is given is a copy of its own and may be changed."""

    VERSION: ClassVar[int]  # raise it when the same model would give other arrays
    guarded: ClassVar[bool] = True  # ask through the guard; False: read or train the weights behind it
    roles: ClassVar[tuple[Role, ...]] = ("base", "edited", "gold")  # whom it is taken from
    beside: ClassVar[tuple[Role, ...]] = ()  # other models of the run that it reads, the first of each role

    @abstractmethod
    def observe(self, model: Any, scene: Scene) -> Arrays:
        """Return arrays by name; `model` is a transformers model, or a guarded one.

        Raises Unobservable where there is nothing to observe.
        A function of the model, the scene and the own fields: random draws come from `scene.seed` through named
        streams (`unlearn_cli.streams`), never from the ambient state, which is left as it was.
        """
