"""Documents of the user's own, cut into pieces: a beginning, which is given, and what goes on from it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from unlearn_cli.component import Count, component
from unlearn_cli.errors import ConfigError
from unlearn_cli.worlds.text.base import TextWorld

if TYPE_CHECKING:
    from unlearn_cli.worlds.text.items import Item, Part


@component
class Documents(TextWorld):
    """Each file has a column `text`, or is a list of texts (MUSE, Shi et al. 2024, arXiv 2407.06460: raw)."""

    VERSION: ClassVar[int] = 2

    forget: str = ""  # the request, all of it
    retain: str | None = None
    holdout: str | None = None
    prefix: Count = 24  # words of a piece that are given
    continuation: Count = 24  # words that follow, which are asked

    def read(self) -> tuple[Sequence[Item], str]:
        """Read and cut every file."""
        from unlearn_cli.worlds.text.columns import BadRow, Cells
        from unlearn_cli.worlds.text.files import Problems, read_table

        if not self.forget:
            raise ConfigError(["world.forget: nothing given; expected the file of what is requested"])
        found: list[Item] = []
        sha = hashlib.sha256()
        parts: tuple[Part, ...] = ("forget", "retain", "holdout")
        for part in parts:
            path = getattr(self, part)
            if not path:
                continue
            problems = Problems(f"world.{part}", path)
            table = read_table(path, problems)
            sha.update(f"{part}:{table.sha256};".encode())
            for row in table.rows:
                try:
                    written = Cells(row.values).text("text", "content", "document")
                except BadRow as error:
                    problems.add(row.place, str(error))
                    continue
                name = f"{path}, {row.place}"
                found += [replace(item, part=part) for item in self.pieces(written, name)]
            problems.raise_any()
            if not any(item.part == part for item in found):
                least = self.prefix + 1
                raise problems.refuse(f"no text of {least} words or more; lower world.prefix ({self.prefix})")
        return found, sha.hexdigest()

    def pieces(self, written: str, name: str) -> Iterator[Item]:
        """Cut a text; what is left at its end is a piece if there is a word to ask."""
        from unlearn_cli.worlds.text.items import Item

        words = written.split()
        for start in range(0, len(words), self.prefix + self.continuation):
            piece = words[start : start + self.prefix + self.continuation]
            given, asked = piece[: self.prefix], piece[self.prefix :]
            if asked:
                yield Item("forget", " ".join(given), " ".join(asked), subject=name, place=name)
