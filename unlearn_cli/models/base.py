"""What every model is: a recipe that builds a `transformers` causal LM for a world's vocabulary."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from unlearn_cli.worlds.base import WorldData


class Model(ABC):
    """An architecture. Same fields, vocabulary and seed: the same initial weights."""

    VERSION: ClassVar[int]
    trained: ClassVar[bool] = False  # whether it has weights that mean something before it is trained here
    device_map: str = "none"  # "auto": blocks on all devices that the process sees

    @abstractmethod
    def build(self, vocab_size: int, max_length: int, seed: int) -> PreTrainedModel:
        """Return a freshly initialised model for token ids below `vocab_size` and rows of `max_length` tokens."""

    def skeleton(self, vocab_size: int, max_length: int) -> PreTrainedModel | None:
        """The same without weights (on the device `meta`): what memory is estimated from; None if it is not known."""
        return None

    def prepared(self, model: PreTrainedModel) -> PreTrainedModel:
        """Make a model that was read from an artifact ready for training; how it computes may change, not what."""
        return model

    def source(self) -> dict[str, str]:
        """What files that fields name hold: in a digest these stand in the fields' place, so that a file may move."""
        return {}

    def misfits(self, world: WorldData) -> list[str]:
        """Why it cannot read a world's sentences, if it cannot: told before anything runs."""
        return []
