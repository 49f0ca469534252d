"""Questions that are there twice, with two answers: benchmarks have such rows, and a reader must know of them."""

from __future__ import annotations

from collections.abc import Sequence

from unlearn_cli.worlds.text.files import Problems
from unlearn_cli.worlds.text.items import Item, Part

Pair = tuple[Item, Item]  # a row, and the one before that answers its question otherwise


def repeats(part: Part, items: Sequence[Item], problems: Problems) -> list[str]:
    """Notes on those within a file, and on rows of another one that answer a requested question otherwise."""
    found = _told(_within(items), "answer a question otherwise than a row before")
    if part == "forget":
        for item in items:
            problems.requested.setdefault(_asked(item), []).append(item)
        return found
    return found + _told(_against(items, problems), "answer a requested question otherwise")


def _within(items: Sequence[Item]) -> list[Pair]:
    first: dict[tuple[str, ...], Item] = {}
    pairs = [(item, first.setdefault(_asked(item), item)) for item in items]
    return [(item, before) for item, before in pairs if item.answer != before.answer]


def _against(items: Sequence[Item], problems: Problems) -> list[Pair]:
    asked = [(item, problems.requested.get(_asked(item), [])) for item in items]
    return [(item, rows[0]) for item, rows in asked if rows and item.answer not in [row.answer for row in rows]]


def _told(pairs: Sequence[Pair], what: str) -> list[str]:
    """How many, and the first."""
    return [f"{len(pairs)} rows {what}, as {item.place} and {before.place}" for item, before in pairs[:1]]


def _asked(item: Item) -> tuple[str, ...]:
    """The question and what it is about: the same words may ask two subjects."""
    return item.prompt, item.subject or "", item.relation
