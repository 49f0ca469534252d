"""Whether what must stay says nearly the same as what is requested: then no model can do both."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from unlearn_cli.worlds.text.items import Item

WORDS = 3  # in a gram
ALIKE = 0.8  # Jaccard index of the grams of two items, from which they are told

Grams = frozenset[tuple[str, ...]]


def notes(items: Sequence[Item]) -> list[str]:
    """What a reader must know about rows that nearly repeat requested ones, if there are any."""
    pairs = near(items)
    if not pairs:
        return []
    asked, kept = pairs[0]
    first = f"{kept.place} and {asked.place}" if asked.place else f"'{kept.prompt}' and '{asked.prompt}'"
    how = f"Jaccard index of {WORDS}-grams of words {ALIKE} or more"
    return [f"{len(pairs)} rows that must stay nearly repeat requested ones ({how}), as {first}"]


def near(items: Sequence[Item]) -> list[tuple[Item, Item]]:
    """Each item that must stay and is like a requested one, behind the one that it is most like."""
    requested = [(item, grams(item)) for item in items if item.part == "forget"]
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, (_, own) in enumerate(requested):
        for gram in own:
            holders[gram].append(place)
    found = []
    for item in items:
        own = grams(item) if item.part == "retain" else frozenset()
        shared = Counter(place for gram in own for place in holders.get(gram, ()))
        alike = {place: n / (len(own) + len(requested[place][1]) - n) for place, n in shared.items()}
        best = max(alike, key=lambda place: alike[place], default=None)
        if best is not None and alike[best] >= ALIKE:
            found.append((requested[best][0], item))
    return found


def grams(item: Item) -> Grams:
    """Of prompt and answer, in lower case; none of a text of fewer words."""
    words = f"{item.prompt} {item.answer or ''}".lower().split()
    return frozenset(tuple(words[start : start + WORDS]) for start in range(len(words) - WORDS + 1))
