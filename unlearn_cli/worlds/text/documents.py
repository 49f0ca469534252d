"""Documents of the user's own, cut into pieces: a beginning, which is given, and what goes on from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from unlearn_cli.component import Count, component
from unlearn_cli.worlds.text.base import TextWorld

if TYPE_CHECKING:
    from unlearn_cli.worlds.text.files import Problems, Table
    from unlearn_cli.worlds.text.items import Item, Part


@component
class Documents(TextWorld):
    """Each file has a column `text`, or is a list of texts (MUSE, Shi et al. 2024, arXiv 2407.06460: raw)."""

    VERSION: ClassVar[int] = 3

    prefix: Count = 24  # words of a piece that are given
    continuation: Count = 24  # words that follow, which are asked

    def items(self, part: Part, table: Table, problems: Problems) -> Iterator[Item]:
        """The pieces of every text."""
        from unlearn_cli.worlds.text.cells import BadRow, Cells

        found: list[Item] = []
        for row in table.rows:
            try:
                written = Cells(row.values).text("text", "content", "document")
            except BadRow as error:
                problems.add(row.place, str(error))
                continue
            found += self.pieces(part, written, f"{problems.path}, {row.place}")
        if not found:
            problems.raise_any()
            raise problems.refuse(f"no text of {self.prefix + 1} words or more; lower world.prefix ({self.prefix})")
        yield from found

    def pieces(self, part: Part, written: str, name: str) -> Iterator[Item]:
        """Cut a text; what is left at its end is a piece if there is a word to ask."""
        from unlearn_cli.worlds.text.items import Item

        words = written.split()
        for start in range(0, len(words), self.prefix + self.continuation):
            piece = words[start : start + self.prefix + self.continuation]
            given, asked = piece[: self.prefix], piece[self.prefix :]
            if asked:
                yield Item(part, " ".join(given), " ".join(asked), subject=name, place=name)
