"""Real text as a world's language: prompts and answers, tokenised jointly by a Hugging Face tokenizer.

A prompt and its answer are tokenised as one string, as a model reads them, and split by character offsets: the first
token that reaches behind the prompt begins the answer, so that one across the border counts as answer. Template 0 is
each item's own prompt; template k its k-th paraphrase, or its own prompt where it has fewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unlearn_cli.worlds.facts import REFUSAL
from unlearn_cli.worlds.language import Sentences
from unlearn_cli.worlds.vocabulary import PADDING, Ids
from unlearn_cli.worlds.wording import Phrasings, Wording

if TYPE_CHECKING:
    from unlearn_cli.worlds.text.tokens import Span, TextTokens

ABSENT = -1  # no such item; no place of the subject in a sentence
Key = tuple[int, int, int]  # item, template, word or REFUSAL


@dataclass(frozen=True, eq=False)
class TextLanguage(Wording):
    """The texts of a world's items."""

    vocabulary: TextTokens
    prompts: Sequence[Sequence[str]]  # of each item: its own, then its paraphrases
    names: Sequence[str | None]  # of each item: its subject, as prompts name it
    places: Sequence[str]  # of each item: where it comes from, for messages
    words: Sequence[str]  # texts of the objects
    refusal: str
    item: Ids  # [S, R'] item of a subject and a relation, ABSENT where there is none
    first: Ids  # [R'] word of each relation's object 0
    phrasings: Phrasings
    subjects: int  # S
    holders: Sequence[str]  # [O] the file and row that each object's text comes from
    memory: dict[Key, Span] = field(default_factory=dict, repr=False)  # what was tokenised

    @cached_property
    def question(self) -> int:
        """Behind every prompt: training in this world asks no other questions."""
        return max(map(len, self.prompts))

    @cached_property
    def longest(self) -> int:
        """Of every prompt with the longest object."""
        return max(self._starts) + self._width + 1

    def beyond(self, most: int) -> list[str]:
        """Items whose longest prompt is too long with the longest object: any may be asked behind any prompt."""
        words = zip(map(len, self._tokens), [*self.words, self.refusal], [*self.holders, "world.refusal"], strict=True)
        _, longest, holder = max(words)
        answer = f"{self._width} of the longest one ('{longest[:24]}', {holder})"
        held = zip(self.places, self._starts, strict=True)
        too_long = [(place, start) for place, start in held if start + self._width + 1 > most]
        return [f"{place}: {start} tokens before the answer and {answer}" for place, start in too_long]

    @cached_property
    def _starts(self) -> list[int]:
        """Tokens before the answer, in the longest prompt of each item."""
        every = [(i, t, REFUSAL) for i, texts in enumerate(self.prompts) for t in range(len(texts))]
        longest = [0] * len(self.prompts)
        for (item, _, _), span in zip(every, self._spans(every), strict=True):
            longest[item] = max(longest[item], span.start)
        return longest

    def phrased(self, asked: Ids) -> TextLanguage:
        """The same texts, asked and edited in other templates."""
        return replace(self, phrasings=replace(self.phrasings, asked=asked))

    def written_for(self, subject: int, relation: int) -> Ids:
        """An item's paraphrases."""
        return np.arange(1, len(self.prompts[self.item[subject, relation]]))

    def speaks_of(self, subject: Ids, relation: Ids) -> NDArray[np.bool_]:
        """Of items alone."""
        found: NDArray[np.bool_] = self.item[subject, relation] != ABSENT
        return found

    def draw(self, rng: np.random.Generator, n: int) -> Ids:
        """Every item as it is given."""
        return self.phrasings.asked[rng.integers(0, len(self.phrasings.asked), n)]

    def write(self, templates: Ids, subject: Ids, relation: Ids, objects: Ids) -> Sentences:
        """Write entities [n], relations [n] and objects [n] (REFUSAL allowed) in templates [n]."""
        words = np.where(objects == REFUSAL, REFUSAL, self.first[relation] + objects)
        keys = zip(self.item[subject, relation].tolist(), templates.tolist(), words.tolist(), strict=True)
        spans = self._spans(list(keys))
        rows = [span.ids for span in spans]
        ends = [ABSENT if span.name_end is None else span.name_end for span in spans]
        lengths = np.array([span.end - span.start for span in spans], dtype=np.int64)
        return Sentences(
            input_ids=_padded(rows),
            answer_start=np.array([span.start for span in spans], dtype=np.int64),
            length=np.array([len(row) for row in rows], dtype=np.int64),
            answer_length=int(lengths.max(initial=1)),
            subject_end=np.array(ends, dtype=np.int64),
            answer_lengths=lengths,
        )

    def answers(self, relation: Ids, objects: Ids) -> Ids:
        """Tokens [n, T] of objects [n] of relations [n], PADDING behind shorter ones."""
        return _padded(self._alone(relation, objects), self._width)

    def answer_lengths(self, relation: Ids, objects: Ids) -> Ids:
        """How many of their T tokens they have [n]."""
        return np.array([len(tokens) for tokens in self._alone(relation, objects)], dtype=np.int64)

    def text(self, relation: int, objects: int) -> str:
        """An object's text."""
        return self.refusal if objects == REFUSAL else self.words[int(self.first[relation]) + objects]

    @cached_property
    def _width(self) -> int:
        """Tokens of the longest object."""
        return max(map(len, self._tokens))

    @cached_property
    def _tokens(self) -> list[tuple[int, ...]]:
        """Of every word, and of the refusal at last."""
        return self.vocabulary.alone([*self.words, self.refusal])

    def _alone(self, relation: Ids, objects: Ids) -> list[tuple[int, ...]]:
        places = np.where(objects == REFUSAL, len(self.words), self.first[relation] + objects)
        return [self._tokens[place] for place in places.tolist()]

    def _spans(self, keys: Sequence[Key]) -> list[Span]:
        """Tokenise what is new, all at once."""
        new = [key for key in dict.fromkeys(keys) if key not in self.memory]
        if new:
            prompts = [self._prompt(item, template) for item, template, _ in new]
            answers = [self.refusal if word == REFUSAL else self.words[word] for _, _, word in new]
            spans = self.vocabulary.spans(prompts, answers, [self.names[item] for item, _, _ in new])
            self.memory.update(zip(new, spans, strict=True))
        return [self.memory[key] for key in keys]

    def _prompt(self, item: int, template: int) -> str:
        texts = self.prompts[item]
        return texts[template] if template < len(texts) else texts[0]


def _padded(rows: Sequence[Sequence[int]], width: int = 0) -> Ids:
    """Rows of token ids as one array."""
    out = np.full((len(rows), max([width, *map(len, rows)])), PADDING, dtype=np.int64)
    for row, ids in zip(out, rows, strict=True):
        row[: len(ids)] = ids
    return out
