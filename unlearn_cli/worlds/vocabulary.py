"""Words and tokens. Every role (filler, subject, relation, object) owns its token ids; no token serves two roles.

A word of a role with n words spans k tokens. Word i is written in base b = ceil(n^(1/k)), most significant digit
first, and each digit position has its own range of ids, so that k tokens decode to one word without context. Words may
also have texts, of one token or, by a spelling, of several.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Ids = NDArray[np.int64]

NOTHING = -1  # no token: what fills arrays that no model reads
END = 0  # begins and ends every sentence, as in GPT-NeoX's <|endoftext|>
PADDING = 1
UNKNOWN = 2
STOP = 3  # the full stop
OBJECT_MARK = 4  # an object follows; repeated in an object's place it is the refusal
SUBJECT_MARK = 5  # a subject follows
RELATION_MARK = 6  # a relation follows
QUESTION_MARK = 7  # begins a question
ANSWER_MARK = 8  # begins its answer
SPECIAL = ("<|endoftext|>", "<|padding|>", "<unk>", ".", "OO", "SS", "RR", "QQ", "AA")
CUT_OUT = (SPECIAL[END], SPECIAL[PADDING], SPECIAL[UNKNOWN])  # the tokenizer finds these inside a longer word, too


@dataclass(frozen=True)
class Role:
    """A contiguous range of token ids that spells the words of one role."""

    name: str
    words: int  # n
    tokens_per_word: int  # k
    start: int  # first token id
    names: tuple[str, ...] | None = None  # texts of words of one token; None: they are numbered

    @cached_property
    def base(self) -> int:
        """Smallest b with b^k >= n, in integers: a float root is off by one for large n."""
        base = max(1, round(self.words ** (1 / self.tokens_per_word)))
        while base**self.tokens_per_word < self.words:
            base += 1
        while base > 1 and (base - 1) ** self.tokens_per_word >= self.words:
            base -= 1
        return base

    @property
    def size(self) -> int:
        """Number of token ids."""
        return self.base * self.tokens_per_word

    def encode(self, words: Ids) -> Ids:
        """Spell words [...] as token ids [..., k]."""
        places = self.base ** np.arange(self.tokens_per_word - 1, -1, -1, dtype=np.int64)
        digits = words[..., None] // places % self.base
        return digits + self._starts

    def decode(self, tokens: Ids) -> Ids:
        """Read token ids [..., k] back as words [...]; a ValueError if they spell no word of this role."""
        digits = tokens - self._starts
        places = self.base ** np.arange(self.tokens_per_word - 1, -1, -1, dtype=np.int64)
        words = (digits * places).sum(-1)
        if ((digits < 0) | (digits >= self.base)).any() or (words >= self.words).any():
            raise ValueError(f"tokens {tokens.tolist()} spell no {self.name}")
        return words

    def surface(self) -> list[str]:
        """Text of each token id in order: its name, or `subject-0-17` for digit 17 in place 0 of a subject."""
        if self.names is not None:
            return list(self.names)
        if self.tokens_per_word == 1:
            return [f"{self.name}-{digit}" for digit in range(self.base)]
        return [f"{self.name}-{place}-{digit}" for place in range(self.tokens_per_word) for digit in range(self.base)]

    @cached_property
    def _starts(self) -> Ids:
        return self.start + self.base * np.arange(self.tokens_per_word, dtype=np.int64)


@dataclass(frozen=True)
class Spelling:
    """Words of several tokens that have texts: word i is `texts[places[i, 0]] texts[places[i, 1]] ...`."""

    texts: list[str]
    places: Ids  # [n, k]


@dataclass(frozen=True, eq=False)
class Spelled(Role):
    """A role with a spelling: any of its tokens may stand in any place."""

    places: Ids = field(kw_only=True)  # [n, k]

    @property
    def size(self) -> int:
        """Number of token ids."""
        return len(self.surface())

    def encode(self, words: Ids) -> Ids:
        """Look them up."""
        return self.start + self.places[words]

    def decode(self, tokens: Ids) -> Ids:
        """Read token ids [..., k] back as words [...]; a ValueError if they spell no word of this role."""
        flat = (tokens - self.start).reshape(-1, self.tokens_per_word)
        found = [self._words.get(tuple(row)) for row in flat.tolist()]
        if None in found:
            raise ValueError(f"tokens {tokens.tolist()} spell no {self.name}")
        return np.array(found, dtype=np.int64).reshape(tokens.shape[:-1])

    @cached_property
    def _words(self) -> Mapping[tuple[int, ...], int]:
        return {tuple(row): word for word, row in enumerate(self.places.tolist())}


@dataclass(frozen=True)
class Vocabulary:
    """All token ids of a world: the special ones, then each role's range."""

    roles: Mapping[str, Role]

    @classmethod
    def of(cls, sizes: Mapping[str, tuple[int, int] | list[str] | Spelling]) -> Vocabulary:
        """Lay out roles given as name -> (number of words, tokens per word) or the texts of its words, in that order.

        A ValueError if a text is not one word, or not one of its own: the tokenizer could not read it back.
        """
        roles: dict[str, Role] = {}
        start = len(SPECIAL)
        for name, size in sizes.items():
            if isinstance(size, Spelling):
                words, tokens = size.places.shape
                roles[name] = Spelled(name, words, tokens, start, tuple(size.texts), places=size.places)
            else:
                words, tokens = (len(size), 1) if isinstance(size, list) else size
                roles[name] = Role(name, words, tokens, start, tuple(size) if isinstance(size, list) else None)
            start += roles[name].size
        vocabulary = cls(roles)
        if any(role.names is not None for role in roles.values()):
            _check(vocabulary.surface())
        return vocabulary

    def __getitem__(self, name: str) -> Role:
        return self.roles[name]

    @property
    def size(self) -> int:
        """Number of token ids V."""
        return len(SPECIAL) + sum(role.size for role in self.roles.values())

    @property
    def end(self) -> int:
        """The token that ends a sentence."""
        return END

    @property
    def start(self) -> int:
        """The token that begins one."""
        return END

    @property
    def closing(self) -> tuple[int, ...]:
        """The tokens behind an answer that end its sentence."""
        return (STOP, END)

    @property
    def prelude(self) -> tuple[int, ...]:
        """The tokens before an answer where nothing is asked."""
        return (END, OBJECT_MARK)

    def spelled(self, rows: Iterable[Ids]) -> list[str]:
        """What rows of token ids say."""
        surface = np.array(self.surface())
        return [" ".join(surface[row]) for row in rows]

    def told(self, ids: Ids) -> Ids:
        """Token ids for metrics: as they are, PADDING for what is negative."""
        return np.where(ids < 0, PADDING, ids)

    def surface(self) -> list[str]:
        """Text of each token id 0..V-1."""
        return [*SPECIAL, *(text for role in self.roles.values() for text in role.surface())]

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Export as a Hugging Face fast tokenizer: one whitespace-separated word is one token, both ways."""
        from tokenizers import Tokenizer, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        inner: Any = Tokenizer(models.WordLevel({text: i for i, text in enumerate(self.surface())}, unk_token="<unk>"))
        inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # without a decoder, tokens are joined by one space
        names = {"eos_token": SPECIAL[END], "bos_token": SPECIAL[END], "pad_token": SPECIAL[PADDING]}
        return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token=SPECIAL[UNKNOWN], **names)


def _check(texts: list[str]) -> None:
    twice = [text for text, times in Counter(texts).items() if times > 1]
    broken = [text for text in texts if text.split() != [text]]
    cut = [text for text in texts[len(SPECIAL) :] if any(special in text for special in CUT_OUT)]
    for wrong, what in ((twice, "texts of several tokens"), (broken, "no single words"), (cut, "hold a special token")):
        if wrong:
            raise ValueError(f"{what}: {wrong[:3]}")
