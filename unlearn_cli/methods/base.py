"""What every method is: it receives a model and the data it declares, and leaves the model edited."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from unlearn_cli.worlds.base import WorldData
from unlearn_cli.worlds.vocabulary import Ids
from unlearn_cli.worlds.wording import Wording

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from unlearn_cli.guards.base import Guard
    from unlearn_cli.training.loop import Runtime

Need = Literal["forget", "retain", "gold", "gold_fresh"]


@dataclass(frozen=True, eq=False)
class EditData:
    """What a method may see, cut down to the splits it declares; facts outside are not in these tables."""

    forget: WorldData | None  # the requested facts that it is shown, with their old objects
    target: Ids | None  # [n] new object of each of these facts, REFUSAL included; None when the request names none
    retain: WorldData | None  # the retain pool
    language: Wording | None = None  # the world's words and templates
    gold: tuple[Path, ...] = ()  # checkpoints of retrained models: the gold ones, or the fresh one
    prepared: Path | None = None  # the folder that `Method.prepare` filled


@dataclass(frozen=True, eq=False)
class EditContext:
    """Where and how an edit runs."""

    runtime: Runtime  # device, precision, progress, logging
    seed: int
    folder: Path | None = None  # of the stage, for what a method keeps beside the edited model
    memory: dict[str, Any] = field(default_factory=dict)  # kept from one request of a sequence to the next


@dataclass(frozen=True)
class EditReport:
    """What the edit did, for `cost` and `result.json`."""

    steps: int = 0
    forward_tokens: int = 0
    backward_tokens: int = 0
    trainable_parameters: int = 0
    notes: Mapping[str, Any] = field(default_factory=dict)
    guard: Guard | None = None  # what answers in the model's place from now on


class Method(ABC):
    """A way to edit. `takes` lists the edit kinds it accepts; any other pairing is refused before anything runs."""

    VERSION: ClassVar[int]
    takes: ClassVar[frozenset[str]]
    prepares: ClassVar[frozenset[str] | None] = None  # fields that decide what `prepare` makes; None: it makes nothing
    at_once: ClassVar[bool] = False  # whether it must be given all facts together: no sequence of requests
    loops: ClassVar[bool] = False  # whether its edit trains in the shared loop, then on all devices of the run

    @property
    def between_steps(self) -> str | None:
        """What the whole model is read or set for between the steps of its loop, if anything: fsdp has none to give."""
        return None

    @property
    @abstractmethod
    def needs(self) -> frozenset[Need]:
        """The data it is given; everything else is withheld."""

    def prepare(self, model: PreTrainedModel, data: EditData, context: EditContext) -> EditReport:
        """Fill `context.folder` with what edits of `model` need, whatever they ask: `data` has no requested fact.

        Done once for all edits with the same base, retain facts, seed and values of the fields in `prepares`.
        """
        raise NotImplementedError(f"{type(self).__name__} prepares nothing")

    def source(self) -> dict[str, str]:
        """What files that fields name hold: in a digest these stand in the fields' place, so that a file may move."""
        return {}

    def note(self, op: str) -> str | None:
        """A sentence that a reader of this method's result on an `op` edit must know."""
        return None

    @abstractmethod
    def edit(self, model: PreTrainedModel, data: EditData, context: EditContext) -> EditReport:
        """Change `model`, a fresh copy of the base on its device, in place."""
