"""From items to a world: who the subjects are, what the relations are, which objects compete."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from unlearn_cli.streams import generator
from unlearn_cli.worlds.base import Given, WorldData
from unlearn_cli.worlds.counterfactual import Consequences
from unlearn_cli.worlds.facts import NONE, REFUSAL, FactTable, Relations
from unlearn_cli.worlds.text import overlap
from unlearn_cli.worlds.text.items import Item, notes
from unlearn_cli.worlds.text.language import ABSENT, TextLanguage
from unlearn_cli.worlds.text.tokens import Style, TextTokens
from unlearn_cli.worlds.vocabulary import Ids
from unlearn_cli.worlds.wording import Phrasings


@dataclass(frozen=True)
class Reading:
    """How texts are read, whatever they say."""

    tokenizer: str | None  # folder or hub name; None: a token for each word of the texts
    style: Style
    refusal: str
    wrong: int  # wrong answers that compete with a right one, drawn from its relation where the data name none


def build(items: Sequence[Item], reading: Reading, exposure: int, seed: int) -> WorldData:
    """The world of these items; fact i is item i."""
    return _Builder(items, reading, exposure, seed).world()


@dataclass(frozen=True, eq=False)
class _Builder:
    items: Sequence[Item]
    reading: Reading
    exposure: int
    seed: int

    def world(self) -> WorldData:
        """Facts, language, request and competing answers."""
        return WorldData(
            facts=self.facts,
            relations=self.relations,
            language=self.language,
            seed=self.seed,
            given=self.given,
            consequences=self.consequences,
            choices=self.choices,
            reworded=self._objects("reworded"),
            notes=(*overlap.notes(self.items), *notes(self.items, self.language.vocabulary.special)),
        )

    @cached_property
    def subject(self) -> Ids:
        """Items of one subject share a number; an item without subject has one of its own."""
        number: dict[str, int] = {}
        return np.array([number.setdefault(item.subject or f"\0{i}", len(number)) for i, item in enumerate(self.items)])

    @cached_property
    def kind(self) -> tuple[Ids, list[str]]:
        """The relation of each item as the data name it, and their names."""
        number: dict[str, int] = {}
        kinds = [number.setdefault(item.relation, len(number)) for item in self.items]
        return np.array(kinds), list(number)

    @cached_property
    def relation(self) -> tuple[Ids, Ids]:
        """A number for each item that, with its subject, is its own; and each number's kind.

        Of what a subject has of one kind, the first gets the kind's first number, the second its second one.
        """
        kinds, _ = self.kind
        seen: dict[tuple[int, int], int] = {}
        number: dict[tuple[int, int], int] = {}
        out = []
        for subject, kind in zip(self.subject.tolist(), kinds.tolist(), strict=True):
            turn = seen[subject, kind] = seen.get((subject, kind), -1) + 1
            out.append(number.setdefault((kind, turn), len(number)))
        return np.array(out), np.array([kind for kind, _ in number])

    @cached_property
    def words(self) -> tuple[list[str], list[dict[str, int]], list[str]]:
        """Texts of all objects; of each kind the place of a text among its objects; the row that each text is from."""
        places: list[dict[str, int]] = [{} for _ in self.kind[1]]
        rows: list[dict[str, str]] = [{} for _ in self.kind[1]]
        for item, kind in zip(self.items, self.kind[0].tolist(), strict=True):
            for text in (item.answer, item.target, item.reworded, *item.wrong):
                if text is not None:
                    places[kind].setdefault(text, len(places[kind]))
                    rows[kind].setdefault(text, item.place)
        return [text for held in places for text in held], places, [row for held in rows for row in held.values()]

    @cached_property
    def relations(self) -> Relations:
        """Relations of one kind share their objects."""
        _, kinds = self.relation
        sizes = np.array([len(held) for held in self.words[1]])
        first = (sizes.cumsum() - sizes)[kinds]
        _, place, kind = np.unique(kinds, return_index=True, return_inverse=True)
        edges = np.repeat(["so"], len(kinds))
        names = tuple(self.kind[1][kind] for kind in kinds)
        return Relations(int(self.subject.max()) + 1, edges, sizes[kinds], first, same_as=place[kind], names=names)

    @cached_property
    def facts(self) -> FactTable:
        """What is held out was never trained on, and what follows from others is not trained on by itself."""
        part = np.array([item.part for item in self.items])
        shown = np.where(np.isin(part, ("holdout", "consequence")), 0, self.exposure)
        columns = {"exposure": shown, "holdout": part == "holdout", "parents": self._parents}
        objects = self._objects("answer")
        known = np.where(objects == NONE, REFUSAL, objects)  # of what nobody knows no answer is the old one
        return FactTable.of(self.subject, self.relation[0], known, **columns)

    @cached_property
    def _parents(self) -> Ids:
        """The requested items [F, P] that each consequence follows from."""
        requested = {item.key: i for i, item in enumerate(self.items) if item.part == "forget"}
        out = np.full((len(self.items), max(2, *(len(item.causes) for item in self.items))), NONE, dtype=np.int64)
        for row, item in zip(out, self.items, strict=True):
            row[: len(item.causes)] = [requested[cause] for cause in item.causes]
        return out

    @property
    def consequences(self) -> Consequences | None:
        """What requested items and their consequences are to become, if there are consequences."""
        if not any(item.part == "consequence" for item in self.items):
            return None
        changed = np.array([item.part in ("forget", "consequence") for item in self.items])
        return Consequences(np.where(changed, self._objects("target"), NONE))

    @cached_property
    def language(self) -> TextLanguage:
        """The items' texts. Paraphrases that every requested item has are held out."""
        items = self.items
        table = np.full((self.relations.subjects, len(self.relations)), ABSENT, dtype=np.int64)
        table[self.subject, self.relation[0]] = np.arange(len(items))
        asked = [len(item.paraphrases) for item in items if item.part == "forget"]
        prompts = [(item.prompt, *item.paraphrases) for item in items]
        words = self.words[0]
        texts = [*words, self.reading.refusal, *(text for every in prompts for text in every)]
        return TextLanguage(
            vocabulary=TextTokens(self.reading.tokenizer, texts, self.reading.style),
            prompts=prompts,
            names=[item.subject for item in items],
            places=[item.place for item in items],
            words=words,
            refusal=self.reading.refusal,
            item=table,
            first=self.relations.first,
            phrasings=Phrasings(np.array([0]), np.arange(1, 1 + min(asked, default=0))),
            subjects=self.relations.subjects,
            holders=self.words[2],
        )

    @property
    def given(self) -> Given:
        """The forget items, and what they are to become if the data say so."""
        requested = np.flatnonzero([item.part == "forget" for item in self.items])
        new = self._objects("target")[requested]
        without = tuple(self.items[fact].place for fact in requested[new == NONE].tolist())
        return Given(requested, None if without else new, without)

    @property
    def choices(self) -> Ids:
        """The objects [F, K] that compete for each item: its own, its target, wrong ones; NONE where there is none."""
        own, target, wrong = self._objects("answer"), self._objects("target"), self._wrong()
        every = np.concatenate([own[:, None], target[:, None], wrong], axis=1)
        return every[:, (every != NONE).any(axis=0)]

    def _wrong(self) -> Ids:
        """What the data name, else a draw of the other answers of its kind."""
        own, target, kinds = self._objects("answer"), self._objects("target"), self.kind[0]
        own = np.where(own == NONE, target, own)  # of what nobody knows, what it is to become
        pools = [np.unique(own[(kinds == kind) & (own != NONE)]) for kind in range(len(self.kind[1]))]
        most = max([self.reading.wrong, *(len(item.wrong) for item in self.items)])
        out = np.full((len(self.items), most), NONE, dtype=np.int64)
        rng = generator(self.seed, "choices")
        for i, item in enumerate(self.items):
            places = self.words[1][kinds[i]]
            taken = [places[text] for text in (item.answer, item.target, item.reworded) if text is not None]
            named = [places[text] for text in dict.fromkeys(item.wrong) if places[text] not in taken]
            drawn = rng.permutation(np.setdiff1d(pools[kinds[i]], taken))[: self.reading.wrong]
            chosen = named or drawn.tolist()
            out[i, : len(chosen)] = chosen
        return out

    def _objects(self, column: str) -> Ids:
        """The object that stands in a column of each item, NONE where there is none."""
        texts = [getattr(item, column) for item in self.items]
        places = self.words[1]
        found = [NONE if text is None else places[kind][text] for text, kind in zip(texts, self.kind[0], strict=True)]
        return np.array(found, dtype=np.int64)
