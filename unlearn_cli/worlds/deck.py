"""The order in which facts are shown: an exact deck that is never laid out.

The deck holds every fact as often as it is stated and asked. It is dealt in passes, as many as a fact has sentences on
average; the sentences of a fact are spread evenly over the passes of its phase, from a random start, and each pass is
shuffled by a permutation keyed by (stream, pass). So any batch is computable from its place alone, a resumed run deals
the cards that an uninterrupted one would have dealt, and memory is that of one pass.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from unlearn_cli.streams import generator
from unlearn_cli.worlds.facts import FactTable
from unlearn_cli.worlds.vocabulary import Ids
from unlearn_cli.worlds.wording import Wording

STARTS = 2**20  # resolution of the random starts, far above the rounding of an exposure


@dataclass(frozen=True, eq=False)
class Cards:
    """Sentences to write, in order."""

    facts: Ids  # [n]
    templates: Ids  # [n]
    dissent: NDArray[np.bool_]  # [n] the sentence states the fact's alternative

    def part(self, rows: slice) -> Cards:
        """Some of the cards: one process's share."""
        return Cards(self.facts[rows], self.templates[rows], self.dissent[rows])


@dataclass(frozen=True, eq=False)
class Deck:
    """Cards 0..len-1, over the facts of a table in a language."""

    table: FactTable
    language: Wording
    seed: int

    @cached_property
    def facts(self) -> Ids:
        """Ids of the facts in the deck."""
        return self.table.trained

    @cached_property
    def passes(self) -> int:
        """Passes in which the deck is dealt: the mean number of sentences of a fact."""
        return max(1, round(len(self) / max(1, len(self.facts))))

    def __len__(self) -> int:
        return int(self.table.exposure.sum() + self.table.questions.sum())

    def deal(self, start: int, stop: int) -> Cards:
        """The cards start..stop-1."""
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"cards {start}..{stop} of a deck of {len(self)}")
        pieces = []
        number = self._pass_of(start)
        while start < stop:
            first, end = self._before(number), self._before(number + 1)
            part = slice(start - first, min(stop, end) - first)
            pieces.append([column[part] for column in _shuffled(self, number)])
            start, number = min(stop, end), number + 1
        empty = [np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0, dtype=bool)]
        return Cards(*(np.concatenate(column) for column in zip(empty, *pieces, strict=True)))

    def ledger(self, cards: int) -> Ids:
        """How often each fact of the table was stated and asked after `cards` cards: int64 [F, 2]."""
        number = self._pass_of(cards)
        shown = np.zeros((len(self.table), 2), dtype=np.int64)
        shown[self.facts] = self._shown(number)
        rest = self.deal(self._before(number), cards)
        np.add.at(shown, (rest.facts, self.language.is_question(rest.templates).astype(np.int64)), 1)
        return shown

    def _pass_of(self, card: int) -> int:
        """The pass that deals a card."""
        if self._even:
            return card // len(self.facts)
        return bisect_right(range(1, self.passes + 1), card, key=self._before)

    def _before(self, number: int) -> int:
        """Cards dealt before a pass begins."""
        if self._even:
            return number * len(self.facts)
        return _cards_before(self, number)

    @cached_property
    def _even(self) -> bool:
        """Whether every pass is each fact once: then nothing need be counted."""
        counts = self.table.exposure[self.facts]
        windows = (self.table.phase_start > 0) | (self.table.phase_end < 1)
        same = len(counts) > 0 and bool((counts == counts[0]).all())
        return same and not windows.any() and not self.table.questions.any()

    def _shown(self, number: int) -> Ids:
        """Statements and questions of each fact of the deck before pass `number`: [n, 2]."""
        start, end = self.table.phase_start[self.facts], self.table.phase_end[self.facts]
        whole = (start == 0) & (end == 1)
        phase = np.where(whole, number / self.passes, np.clip((number / self.passes - start) / (end - start), 0, 1))
        counts = np.stack([self.table.exposure[self.facts], self.table.questions[self.facts]], axis=1)
        return np.floor(counts * phase[:, None] + self._starts).astype(np.int64)

    @cached_property
    def _starts(self) -> NDArray[np.float64]:
        drawn = generator(self.seed, "starts").integers(0, STARTS, (len(self.facts), 2))
        return (drawn + 0.5) / STARTS  # strictly inside (0, 1), so that rounding never moves a count


@lru_cache(maxsize=1024)
def _cards_before(deck: Deck, number: int) -> int:
    return int(deck._shown(number).sum())


@lru_cache(maxsize=4)  # a batch touches one pass, sometimes two
def _shuffled(deck: Deck, number: int) -> tuple[Ids, Ids, NDArray[np.bool_]]:
    """Facts, templates and dissent of every card of a pass, in order."""
    table, language = deck.table, deck.language
    if deck._even:
        facts, asked = deck.facts, np.zeros(len(deck.facts), dtype=bool)
    else:
        due = deck._shown(number + 1) - deck._shown(number)
        facts = np.concatenate([np.repeat(deck.facts, due[:, kind]) for kind in (0, 1)])
        asked = np.arange(len(facts)) >= due[:, 0].sum()
    order = generator(deck.seed, "order", number).permutation(len(facts))
    facts, asked = facts[order], asked[order]
    drawn = language.draw(generator(deck.seed, "template", number), len(facts))
    templates = np.where(asked, language.question, drawn)
    dissent = np.zeros(len(facts), dtype=bool)
    if (table.alternative_rate > 0).any():
        dissent = generator(deck.seed, "dissent", number).random(len(facts)) < table.alternative_rate[facts]
    return facts, templates, dissent
