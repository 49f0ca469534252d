"""Edits of the user's own: prompts with what a model says now and what it is to say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from unlearn_cli.component import component
from unlearn_cli.worlds.text.base import TextWorld

if TYPE_CHECKING:
    from unlearn_cli.worlds.text.items import Item


@component
class Edits(TextWorld):
    """Each file is .jsonl, .json, .csv, .parquet or a folder of a Hugging Face dataset."""

    VERSION: ClassVar[int] = 2

    forget: str = ""  # the request, all of it: prompt, subject, old and new object
    retain: str | None = None  # facts that must not change; those that a format names beside an edit are added
    holdout: str | None = None
    columns: str = "auto"

    def read(self) -> tuple[Sequence[Item], str]:
        """Read and check every file."""
        from unlearn_cli.worlds.text.columns import read_items

        files = {"forget": self.forget, "retain": self.retain, "holdout": self.holdout}
        return read_items({part: path for part, path in files.items() if path}, self.columns, "edit")
