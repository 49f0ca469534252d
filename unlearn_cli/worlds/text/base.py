"""What worlds of the user's own text share: how it is read, and the request that comes with it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from unlearn_cli.component import Count, Said, component
from unlearn_cli.worlds.base import World, WorldData
from unlearn_cli.worlds.text.items import PARTS, Part
from unlearn_cli.worlds.text.tokens import Style

if TYPE_CHECKING:
    from unlearn_cli.worlds.text.files import Problems, Table
    from unlearn_cli.worlds.text.items import Item


@component
class TextWorld(World):
    """Items from files: .jsonl, .json, .csv, .parquet, or a folder of a Hugging Face dataset.

    The files are read once: a run is about what they held then.
    """

    VERSION: ClassVar[int] = 4

    forget: str = ""  # the request, all of it
    retain: str | None = None  # what must not change
    holdout: str | None = None  # what no model was trained on
    tokenizer: str | None = None  # folder or hub name of a tokenizer; null: one token for each word of the texts
    style: Style = "auto"  # how a prompt is put: chat | plain (Question: ... Answer:) | bare; auto: chat if it can
    refusal: Said = "I don't know."
    wrong: Count = 4  # wrong answers that compete with a right one, drawn where the data name none
    exposure: Count = 10  # passes over the data if a model is fine-tuned on them first

    @abstractmethod
    def items(self, part: Part, table: Table, problems: Problems) -> Iterator[Item]:
        """The items of the file given for `part`; what is wrong with a row goes to `problems`."""

    def build(self, seed: int) -> WorldData:
        """Number the items; a ConfigError for files that are no data."""
        from unlearn_cli.worlds.text.build import Reading, build

        reading = Reading(self.tokenizer, self.style, self.refusal, self.wrong)
        return build(self._found[0], reading, self.exposure, seed)

    def source(self) -> dict[str, str]:
        """What the files hold and the tokenizer does, in place of where they lie."""
        from unlearn_cli.models.pretrained import tokenizer_digest

        told = {"files": f"sha256:{self._found[1]}"} | dict.fromkeys(PARTS, "")
        return told | ({"tokenizer": tokenizer_digest(self.tokenizer)} if self.tokenizer else {})

    @cached_property
    def _found(self) -> tuple[Sequence[Item], str]:
        from unlearn_cli.worlds.text.reading import read

        files: dict[Part, str | None] = {part: getattr(self, part) for part in PARTS}
        return read({part: path for part, path in files.items() if path}, self.items)
