"""Names of columns: which of them readers know, and which a misspelt one means."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from functools import lru_cache
from typing import Any

from unlearn_cli.worlds.text.cells import BadRow, Cells

CLOSE, CLOSE_LONG = 0.8, 0.85  # two letters in the wrong order leave 0.83 of six letters alike, 0.875 of eight
LONG = 8
NUMBERING = re.compile(r"_i(ds?|dx)$|\d$")  # of rows and options: `subject_id` is no misspelt `subject`


def misspelt(cells: Cells, known: Collection[str]) -> dict[str, str]:
    """Columns of a row that nobody knows, with what its reader asked for in vain under nearly the same name."""
    strange = [name for name in cells.values if name not in known and not NUMBERING.search(name)]
    if not strange:
        return {}
    vain = [name for names in cells.asked if not any(name in cells.values for name in names) for name in names]
    return {name: meant for name in strange if (meant := near(name, tuple(sorted(set(vain)))))}


@lru_cache(maxsize=4096)  # rows of a file have the same columns
def near(given: str, known: tuple[str, ...]) -> str | None:
    """The name that this one nearly is, in small letters."""
    given = given.strip().lower()
    found = difflib.get_close_matches(given, known, n=1, cutoff=CLOSE if len(given) < LONG else CLOSE_LONG)
    return found[0] if found else None


def told(meant: dict[str, str]) -> str:
    """What columns with these names are to be called."""
    each = [f"column '{given}': did you mean '{name}'?" for given, name in meant.items()]
    return " ".join(each)


def known(readers: Iterable[Callable[[Cells], Any]]) -> frozenset[str]:
    """Every column that these readers of rows ask for."""
    probe = Probe({})
    for reader in readers:
        with suppress(BadRow):  # a probe holds no chat
            list(reader(probe))
    return frozenset(name for names in probe.asked for name in names)


class Probe(Cells):
    """A row that has whatever is asked for, and so finds out what that is."""

    def text(self, *names: str) -> str:
        self.asked.add(names)
        return "x"

    def maybe(self, *names: str) -> str | None:
        return self.text(*names)

    def first(self, *names: str) -> str | None:
        return self.text(*names)

    def texts(self, *names: str) -> list[str]:
        self.asked.add(names)
        return ["x", "y"] if names else []

    def value(self, name: str) -> Any:
        return self.text(name)

    def listed(self, name: str) -> Any:
        return self.text(name)

    def part(self, name: str) -> Cells:
        self.asked.add((name,))
        return Probe({})

    def parts(self, name: str) -> list[Cells]:
        return [self.part(name)]

    def object(self, *names: str) -> dict[str, Any]:
        self.asked.add(names)
        return {}
