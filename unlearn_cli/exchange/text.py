"""Sentences as text: the words of their tokens, joined by one blank, as the exported tokenizer reads them back."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from unlearn_cli.worlds.base import WorldData
from unlearn_cli.worlds.deck import Cards
from unlearn_cli.worlds.vocabulary import Ids

CHUNK = 50_000  # sentences in memory at a time


class Texts:
    """The texts of a world."""

    def __init__(self, world: WorldData) -> None:
        self.world = world
        self.words = pa.array(world.vocabulary.surface())

    def joined(self, ids: Ids, length: Ids) -> pa.StringArray:
        """The first length [n] of token ids [n, L] as n texts."""
        flat = ids[np.arange(ids.shape[1]) < length[:, None]]
        offsets = np.concatenate([[0], np.cumsum(length)]).astype(np.int32)
        return pc.binary_join(pa.ListArray.from_arrays(offsets, self.words.take(pa.array(flat))), " ")

    def deck(self, cards: int) -> Iterator[tuple[Cards, pa.StringArray]]:
        """The first `cards` training sentences, piece by piece."""
        deck = self.world.deck("export")
        for start in range(0, cards, CHUNK):
            dealt = deck.deal(start, min(start + CHUNK, cards))
            sentences = self.world.write(dealt)
            yield dealt, self.joined(sentences.input_ids, sentences.length)

    def asked(self, facts: Ids, templates: Ids, objects: Ids | None = None) -> tuple[list[str], list[str]]:
        """Prompts [n], through the object mark, and answers [n] of facts [n]: their own objects or others [n]."""
        prompts: list[str] = []
        answers: list[str] = []
        for start in range(0, len(facts), CHUNK):
            part = slice(start, start + CHUNK)
            told = self.world.sentences(facts[part], templates[part], None if objects is None else objects[part])
            prompts += self.joined(told.input_ids, told.answer_start).to_pylist()
            answers += self.joined(told.answers, told.answer_places.sum(axis=1)).to_pylist()
        return prompts, answers

    def subjects(self, facts: Ids) -> list[str]:
        """Names of the facts' subjects; of objects, where those have facts of their own."""
        entity, people = self.world.facts.subject[facts], self.world.relations.subjects
        vocabulary = self.world.vocabulary
        named = self._spelt(vocabulary["subject"].encode(np.minimum(entity, people - 1)))
        nested = np.flatnonzero(entity >= people)
        for place, name in zip(nested, self._spelt(vocabulary["object"].encode(entity[nested] - people)), strict=True):
            named[place] = name
        return named

    def objects(self, relation: Ids, objects: Ids) -> list[str]:
        """Names of objects [n] of relations [n], the refusal included."""
        language = self.world.language
        tokens, lengths = language.answers(relation, objects), language.answer_lengths(relation, objects)
        return self._spelt(tokens) if lengths is None else self.joined(tokens, lengths).to_pylist()

    def _spelt(self, tokens: Ids) -> list[str]:
        """Texts of words [n, k]."""
        return self.joined(tokens, np.full(len(tokens), tokens.shape[1])).to_pylist()
