"""What a world asks of its language, whether a grammar writes it or a Hugging Face tokenizer reads it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unlearn_cli.errors import UnlearnError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from unlearn_cli.worlds.language import Sentences
    from unlearn_cli.worlds.vocabulary import Ids, Role


@dataclass(frozen=True, eq=False)
class Phrasings:
    """The templates in which facts are asked, all of them with the object behind subject and relation."""

    asked: Ids  # in trained ones; also those that an edit is written in
    heldout: Ids  # never trained: slots in a trained order, or in one of many
    reordered: Ids = field(default_factory=lambda: np.empty(0, dtype=np.int64))  # never trained: an order of its own


class NoRoles(UnlearnError):
    """What is asked for reads tokens that serve one role, and real text has none."""


class Tokens(Protocol):
    """Token ids and their texts."""

    @property
    def size(self) -> int:
        """Number of token ids V."""

    @property
    def end(self) -> int:
        """The token that ends a sentence."""

    @property
    def start(self) -> int:
        """The token that begins one."""

    @property
    def closing(self) -> tuple[int, ...]:
        """The tokens behind an answer that end its sentence."""

    @property
    def prelude(self) -> tuple[int, ...]:
        """The tokens before an answer where nothing is asked."""

    def spelled(self, rows: Iterable[Ids]) -> list[str]:
        """What rows of token ids say."""

    def told(self, ids: Ids) -> Ids:
        """Token ids for metrics: END ends a text, PADDING is what is negative, and neither is anything else."""

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The Hugging Face tokenizer that is saved with models."""

    def __getitem__(self, role: str) -> Role: ...


class Wording(ABC):
    """Templates in which facts are stated and asked, as token ids."""

    vocabulary: Any  # Tokens
    phrasings: Phrasings
    subjects: int  # entities below are subjects; the others are objects

    @property
    @abstractmethod
    def question(self) -> int:
        """Template id of the question that training may hold, behind those of the statements."""

    @property
    @abstractmethod
    def longest(self) -> int:
        """Most tokens of a sentence."""

    @abstractmethod
    def phrased(self, asked: Ids) -> Wording:
        """The same language, facts asked and edits written in templates `asked`."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, n: int) -> Ids:
        """Draw the templates [n] of training statements."""

    @abstractmethod
    def write(self, templates: Ids, subject: Ids, relation: Ids, objects: Ids) -> Sentences:
        """Write entities [n], relations [n] and objects [n] (REFUSAL allowed) in templates [n]."""

    @abstractmethod
    def answers(self, relation: Ids, objects: Ids) -> Ids:
        """Tokens [n, T] of objects [n] of relations [n], PADDING behind shorter ones."""

    @abstractmethod
    def answer_lengths(self, relation: Ids, objects: Ids) -> Ids | None:
        """How many of their T tokens objects [n] of relations [n] have; None: all of them."""

    def beyond(self, most: int) -> list[str]:
        """What is longer than `most` tokens, by its place in the user's files; nothing of what is generated."""
        return []

    @property
    def new_question(self) -> int:
        """Template id of a question in a format that no training sentence has."""
        return self.question + 1

    @property
    def asked(self) -> Ids:
        """Trained templates in which facts are asked and edits written."""
        return self.phrasings.asked

    def written_for(self, subject: int, relation: int) -> Ids:
        """Templates that were written for one fact, besides `asked`."""
        return self.asked[:0]

    def speaks_of(self, subject: Ids, relation: Ids) -> NDArray[np.bool_]:
        """Whether there are sentences about entities [n] and relations [n], true of what the world has no fact of."""
        return np.ones(len(subject), dtype=bool)

    def is_question(self, templates: Ids) -> NDArray[np.bool_]:
        """Whether templates [n] are questions."""
        return templates >= self.question
