"""Questions and answers of the user's own: what is to be forgotten, what must stay, what no model was trained on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from unlearn_cli.component import component
from unlearn_cli.worlds.text.base import TextWorld

if TYPE_CHECKING:
    from unlearn_cli.worlds.text.files import Problems, Table
    from unlearn_cli.worlds.text.items import Item, Part


@component
class QA(TextWorld):
    """Rows of a question and its answer."""

    VERSION: ClassVar[int] = 4

    columns: str = "auto"  # what the columns are called: auto | one of the presets of `presets.py`

    def items(self, part: Part, table: Table, problems: Problems) -> Iterator[Item]:
        """One of each row, and what its format names beside it."""
        from unlearn_cli.worlds.text import columns

        return columns.items(self.columns, "question", part, table, problems)
