"""Edits of the user's own: prompts with what a model says now and what it is to say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from unlearn_cli.component import component
from unlearn_cli.worlds.text.base import TextWorld

if TYPE_CHECKING:
    from unlearn_cli.worlds.text.files import Problems, Table
    from unlearn_cli.worlds.text.items import Item, Part


@component
class Edits(TextWorld):
    """Rows of a prompt, its subject, the old and the new object."""

    VERSION: ClassVar[int] = 5

    columns: str = "auto"  # what the columns are called: auto | one of the presets of `presets.py`

    def items(self, part: Part, table: Table, problems: Problems) -> Iterator[Item]:
        """One of each row, and what its format names beside it."""
        from unlearn_cli.worlds.text import columns

        return columns.items(self.columns, "edit", part, table, problems)
