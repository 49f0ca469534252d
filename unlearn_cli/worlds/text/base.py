"""What worlds of the user's own text share: how it is read, and the request that comes with it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from unlearn_cli.component import Count, component
from unlearn_cli.worlds.base import World, WorldData
from unlearn_cli.worlds.text.tokens import Style

if TYPE_CHECKING:
    from unlearn_cli.worlds.text.items import Item


@component
class TextWorld(World):
    """Items from files. The files are read once: a run is about what they held then."""

    VERSION: ClassVar[int] = 2

    tokenizer: str | None = None  # folder or hub name of a tokenizer; null: one token for each word of the texts
    style: Style = "auto"  # how a prompt is put: chat | plain (Question: ... Answer:) | bare; auto: chat if it can
    refusal: str = "I don't know."
    wrong: Count = 4  # wrong answers that compete with a right one, drawn where the data name none
    exposure: Count = 10  # passes over the data if a model is fine-tuned on them first

    @abstractmethod
    def read(self) -> tuple[Sequence[Item], str]:
        """The items, and the SHA-256 of the files; a ConfigError with every bad row."""

    def build(self, seed: int) -> WorldData:
        """Number the items; a ConfigError for files that are no data."""
        from unlearn_cli.worlds.text.build import Reading, build

        reading = Reading(self.tokenizer, self.style, self.refusal, self.wrong)
        return build(self._found[0], reading, self.exposure, seed)

    def source(self) -> dict[str, str]:
        """What the files hold and the tokenizer does, in place of where they lie."""
        from unlearn_cli.models.pretrained import tokenizer_digest

        told = {"files": f"sha256:{self._found[1]}"} | dict.fromkeys(self.places(), "")
        return told | ({"tokenizer": tokenizer_digest(self.tokenizer)} if self.tokenizer else {})

    def places(self) -> Sequence[str]:
        """The fields that name files."""
        return ("forget", "retain", "holdout")

    @cached_property
    def _found(self) -> tuple[Sequence[Item], str]:
        return self.read()
