"""From a fact and a template to token ids, many at a time.

A template is a row of items: a slot (subject, relation, object), a filler word, a special token, or nothing. Rows may
differ in length; they are padded on the right, which a causal model never sees.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from unlearn_cli.worlds.facts import REFUSAL
from unlearn_cli.worlds.vocabulary import (
    ANSWER_MARK,
    END,
    OBJECT_MARK,
    PADDING,
    QUESTION_MARK,
    RELATION_MARK,
    STOP,
    SUBJECT_MARK,
    Ids,
    Vocabulary,
)
from unlearn_cli.worlds.wording import Phrasings, Wording

# Items of a template; 0, 1, ... are filler words.
SUBJECT, RELATION, OBJECT, NOTHING = -1, -2, -3, -4
_SPECIAL = -10  # item of special token id: _SPECIAL - id
_ABSENT = -1  # place of a slot that a template does not have

ASKED = 16  # most trained phrasings in which a fact is asked and edited
QUESTION_WORDS = 7  # WQ1..WQ4 of the trained question, F1..F3 of the new one; they follow the grammar's own fillers


def special(token: int) -> int:
    """The item of a special token."""
    return _SPECIAL - token


START = [special(END)]
CLOSE = [special(OBJECT_MARK), OBJECT, special(STOP), special(END)]  # what answers and ends a sentence
PLAIN_SUBJECT, PLAIN_RELATION = [special(SUBJECT_MARK), SUBJECT], [special(RELATION_MARK), RELATION]
PLAIN_OBJECT = [special(OBJECT_MARK), OBJECT]


def padded(rows: list[list[int]]) -> Ids:
    """Rows of items as one array [G, I]."""
    out = np.full((len(rows), max(map(len, rows))), NOTHING, dtype=np.int64)
    for row, items in zip(out, rows, strict=True):
        row[: len(items)] = items
    return out


class Forms(ABC):
    """The statement templates of a grammar, numbered from 0."""

    @property
    @abstractmethod
    def size(self) -> int:
        """How many there are."""

    @property
    @abstractmethod
    def longest(self) -> Ids:
        """Items of all of them, or of some that are as long as any: [G, I]."""

    @abstractmethod
    def items(self, templates: Ids) -> Ids:
        """The items of templates [n]: [n, I], NOTHING behind the last."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, n: int) -> Ids:
        """Draw the templates [n] of training sentences."""


@dataclass(frozen=True, eq=False)
class Listed(Forms):
    """Templates that can be written down one by one."""

    rows: Ids  # [G, I]
    trained: Ids  # the ones that training sentences use
    weights: NDArray[np.float64] | None = None  # how often, adding up to 1; None: all alike

    @property
    def size(self) -> int:
        """G."""
        return len(self.rows)

    @property
    def longest(self) -> Ids:
        """All of them."""
        return self.rows

    def items(self, templates: Ids) -> Ids:
        """Look them up."""
        return self.rows[templates]

    def draw(self, rng: np.random.Generator, n: int) -> Ids:
        """Independently."""
        if self.weights is None:
            return self.trained[rng.integers(0, len(self.trained), n)]
        places = np.searchsorted(self.weights.cumsum(), rng.random(n), side="right")
        return self.trained[np.minimum(places, len(self.trained) - 1)]


Drawn = tuple[Forms, Phrasings]  # what a grammar draws


@dataclass(frozen=True, eq=False)
class Sentences:
    """Token ids of sentences, padded on the right; objects may differ in their number of tokens.

    What is said of the objects' tokens has T columns. Behind the end of a shorter object the place is that of its last
    token again and the token is PADDING: both can be looked up, and `answer_mask` says that they do not count.
    """

    input_ids: Ids  # [n, L]
    answer_start: Ids  # [n] position of the object's first token
    length: Ids  # [n] tokens of each sentence
    answer_length: int  # most tokens of an object, T
    subject_end: Ids  # [n] position of the subject's last token; _ABSENT in a sentence without subject
    answer_lengths: Ids | None = None  # [n] tokens of each object, from 1 to T; None: T in all

    @property
    def positions(self) -> Ids:
        """Where the objects' tokens stand [n, T]."""
        places = np.arange(self.answer_length)
        if self.answer_lengths is None:
            return self.answer_start[:, None] + places
        return self.answer_start[:, None] + np.minimum(places, self.answer_lengths[:, None] - 1)

    @property
    def answers(self) -> Ids:
        """The objects' tokens [n, T]."""
        tokens = np.take_along_axis(self.input_ids, self.positions, axis=1)
        return tokens if self.answer_mask is None else np.where(self.answer_mask, tokens, PADDING)

    @property
    def answer_mask(self) -> NDArray[np.bool_] | None:
        """Which of the places [n, T] an object's token stands in; None: all."""
        return None if self.answer_lengths is None else np.arange(self.answer_length) < self.answer_lengths[:, None]

    @property
    def answer_places(self) -> NDArray[np.bool_]:
        """`answer_mask`, written out where it is None [n, T]."""
        return np.ones(self.answers.shape, dtype=bool) if self.answer_mask is None else self.answer_mask

    @property
    def answer_end(self) -> Ids:
        """Position of the object's last token [n]."""
        tokens = self.answer_length if self.answer_lengths is None else self.answer_lengths
        return self.answer_start + tokens - 1

    @property
    def answer_tokens(self) -> int:
        """How many tokens all objects have together."""
        return int((self.answer_end - self.answer_start + 1).sum())

    @property
    def through_answer(self) -> Ids:
        """The rows without the columns behind the last object: all that an answer loss needs."""
        return self.input_ids[:, : int(self.answer_end.max()) + 1]


@dataclass(frozen=True, eq=False)
class _Skeleton:
    """Templates with room for the slots."""

    tokens: Ids  # [G, L] constant words and specials; PADDING elsewhere
    places: Ids  # [G, 3] first position of subject, relation and object; _ABSENT for a slot that does not occur
    length: Ids  # [G]

    def rows(self, chosen: Ids) -> _Skeleton:
        return _Skeleton(self.tokens[chosen], self.places[chosen], self.length[chosen])


@dataclass(frozen=True, eq=False)
class Language(Wording):
    """A vocabulary and the templates in which facts are stated and asked.

    Template ids below `question` are the grammar's; `question` is the question that training may hold, `new_question`
    one that it never does.
    """

    vocabulary: Vocabulary
    forms: Forms
    count: int  # statement templates: `forms.size`, or fewer where relations have texts of their own
    phrasings: Phrasings
    subjects: int  # entities below are subjects; the others are objects
    first: Ids  # [R'] word of each relation's object 0
    own: Ids | None = None  # [R', count] row of `forms` for each relation, where relations have texts of their own
    orders: Ids | None = None  # [G, k] order of a subject's tokens in each row of `forms` and question

    @property
    def question(self) -> int:
        """Template id of the question that training may hold."""
        return self.count

    def phrased(self, asked: Ids) -> Language:
        """The same language, facts asked and edits written in templates `asked`."""
        return replace(self, phrasings=replace(self.phrasings, asked=asked))

    def draw(self, rng: np.random.Generator, n: int) -> Ids:
        """Draw the templates [n] of training statements."""
        return self.forms.draw(rng, n)

    def write(self, templates: Ids, subject: Ids, relation: Ids, objects: Ids) -> Sentences:
        """Write entities [n], relations [n] and objects [n] (REFUSAL allowed) in templates [n]."""
        people = subject < self.subjects
        forms = self._rows(templates, relation)
        if people.all() or self._widths[True] == self._widths[False]:
            skeleton = self._skeleton(forms, people=True)
        elif not people.any():
            skeleton = self._skeleton(forms, people=False)
        else:
            skeleton = _merged(people, *(self._skeleton(forms, people=kind) for kind in (True, False)))
        out = skeleton.tokens
        rows = np.arange(len(out))
        named = self._subject_tokens(subject[people], people=True)
        if self.orders is not None:
            named = np.take_along_axis(named, self.orders[forms[people]], axis=1)
        self._fill(out, rows[people], skeleton.places[people, 0], named)
        self._fill(
            out, rows[~people], skeleton.places[~people, 0], self._subject_tokens(subject[~people], people=False)
        )
        self._fill(out, rows, skeleton.places[:, 1], self.vocabulary["relation"].encode(relation))
        self._fill(out, rows, skeleton.places[:, 2], self.answers(relation, objects))
        longest = int(skeleton.length.max(initial=0))
        start = skeleton.places[:, 0]
        width = np.where(people, self._widths[True], self._widths[False])
        subject_end = np.where(start == _ABSENT, _ABSENT, start + width - 1)
        return Sentences(out[:, :longest], skeleton.places[:, 2], skeleton.length, self._width, subject_end)

    def answers(self, relation: Ids, objects: Ids) -> Ids:
        """Tokens [n, T] of objects [n] of relations [n]; the refusal is the object mark in every place."""
        refused = objects == REFUSAL
        tokens = self.vocabulary["object"].encode(self.first[relation] + np.where(refused, 0, objects))
        tokens[refused] = OBJECT_MARK
        return tokens

    def answer_lengths(self, relation: Ids, objects: Ids) -> Ids | None:
        """How many of their T tokens objects [n] of relations [n] have, PADDING behind them; None: all of them."""
        return None

    @cached_property
    def longest(self) -> int:
        """Most tokens of a sentence."""
        return max(self._laid_out(self._every_row, people=kind).tokens.shape[1] for kind in (True, False))

    @property
    def _width(self) -> int:
        return self.vocabulary["object"].tokens_per_word

    @cached_property
    def _widths(self) -> Mapping[bool, int]:
        """Tokens of a subject that is one, and of an object in its place."""
        return {True: self.vocabulary["subject"].tokens_per_word, False: self._width}

    def _subject_tokens(self, subject: Ids, people: bool) -> Ids:
        return self.vocabulary["subject" if people else "object"].encode(subject - (0 if people else self.subjects))

    @staticmethod
    def _fill(out: Ids, rows: Ids, start: Ids, tokens: Ids) -> None:
        occurs = start != _ABSENT
        for place in range(tokens.shape[1]):
            out[rows[occurs], start[occurs] + place] = tokens[occurs, place]

    def _rows(self, templates: Ids, relation: Ids) -> Ids:
        """Rows of `forms` of templates [n]; the questions' follow the last, in order."""
        if self.own is None:
            return templates
        asked = self.is_question(templates)
        stated = self.own[relation, np.where(asked, 0, templates)]
        return np.where(asked, templates - self.count + self.forms.size, stated)

    def _skeleton(self, rows: Ids, people: bool) -> _Skeleton:
        """A fresh skeleton for each of `rows` [n]."""
        if isinstance(self.forms, Listed):
            return (self._listed if people else self._listed_objects).rows(rows)
        asked = rows >= self.forms.size
        stated = self.forms.items(np.where(asked, 0, rows))
        items = np.full((len(rows), max(stated.shape[1], self._questions.shape[1])), NOTHING, dtype=np.int64)
        items[:, : stated.shape[1]] = stated
        items[asked] = NOTHING
        items[asked, : self._questions.shape[1]] = self._questions[rows[asked] - self.forms.size]
        return self._laid_out(items, people)

    @cached_property
    def _listed(self) -> _Skeleton:
        return self._laid_out(self._every_row, people=True)

    @cached_property
    def _listed_objects(self) -> _Skeleton:
        return self._laid_out(self._every_row, people=False)

    @property
    def _every_row(self) -> Ids:
        return padded([*self.forms.longest.tolist(), *self._questions.tolist()])

    @cached_property
    def _questions(self) -> Ids:
        """The two question formats: what relation does the subject have, in trained and in new words."""
        filler = self.vocabulary["filler"].words - QUESTION_WORDS
        w1, w2, w3, w4, f1, f2, f3 = range(filler, filler + QUESTION_WORDS)
        ask, answer = [special(QUESTION_MARK)], [special(ANSWER_MARK)]
        return padded(
            [
                [*START, *ask, w1, *PLAIN_RELATION, w2, *PLAIN_SUBJECT, w3, w4, *answer, *CLOSE],
                [*START, *ask, f1, *PLAIN_RELATION, f2, *PLAIN_SUBJECT, f3, *answer, *CLOSE],
            ]
        )

    def _laid_out(self, items: Ids, people: bool) -> _Skeleton:
        """Turn items [n, I] into tokens."""
        slots = {SUBJECT: self._widths[people], RELATION: 1, OBJECT: self._width, NOTHING: 0}
        width = np.ones_like(items)
        for slot, tokens in slots.items():
            width[items == slot] = tokens
        end = width.cumsum(axis=1)
        start = end - width
        out = np.full((len(items), int(end[:, -1].max(initial=0))), PADDING, dtype=np.int64)
        word, mark = items >= 0, items <= _SPECIAL
        rows = np.broadcast_to(np.arange(len(items))[:, None], items.shape)
        out[rows[word], start[word]] = self.vocabulary["filler"].start + items[word]
        out[rows[mark], start[mark]] = _SPECIAL - items[mark]
        places = np.full((len(items), 3), _ABSENT)
        for number, slot in enumerate((SUBJECT, RELATION, OBJECT)):
            found = (items == slot).any(axis=1)
            places[found, number] = start[found, (items[found] == slot).argmax(axis=1)]
        return _Skeleton(out, places, end[:, -1])


def _merged(people: NDArray[np.bool_], of_subjects: _Skeleton, of_objects: _Skeleton) -> _Skeleton:
    """Take each row from the skeleton of its kind of subject."""
    length = max(of_subjects.tokens.shape[1], of_objects.tokens.shape[1])
    tokens = np.full((len(people), length), PADDING, dtype=np.int64)
    for kind, skeleton in ((people, of_subjects), (~people, of_objects)):
        tokens[kind, : skeleton.tokens.shape[1]] = skeleton.tokens[kind]
    places = np.where(people[:, None], of_subjects.places, of_objects.places)
    return _Skeleton(tokens, places, np.where(people, of_subjects.length, of_objects.length))
