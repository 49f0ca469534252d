"""The nonsense grammar of Behemoth: filler of random length and random words around every slot, fresh in each sentence.

Iofinova & Alistarh 2026 (arXiv 2601.23153). `x+ SS s x+ RR r x+ OO o .` or, for an inverted sentence,
`x+ RR r x+ SS s x+ OO o .`; each x+ is one word and more with probability 0.4 each, five at most. A prompt has two
words in each place.

A template id holds the sentence's order, whether it is a prompt, and the number of its noise; the words are a hash of
that number, so that no list of templates is ever laid out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unlearn_cli.worlds.language import CLOSE, NOTHING, PLAIN_RELATION, PLAIN_SUBJECT, START, Drawn, Forms
from unlearn_cli.worlds.vocabulary import Ids
from unlearn_cli.worlds.wording import Phrasings

GAPS, MOST_WORDS, PROMPT_WORDS = 3, 5, 2
GO_ON = 0.4  # probability of one more filler word
NOISE = 2**31  # noise numbers below it are trained, as many above are held out


@dataclass(frozen=True, eq=False)
class Nonsense(Forms):
    """Id = 4 noise + 2 prompt + inverted."""

    lexicon: int  # noise words
    inversion: float  # share of sentences with the relation first
    seed: int

    @property
    def size(self) -> int:
        """Two orders, sentences and prompts, trained and held-out noise."""
        return 8 * NOISE

    @property
    def longest(self) -> Ids:
        """A sentence with as much filler as there can be."""
        gap = [0] * MOST_WORDS
        return np.array([[*START, *gap, *PLAIN_SUBJECT, *gap, *PLAIN_RELATION, *gap, *CLOSE]])

    def items(self, templates: Ids) -> Ids:
        """Hash every noise number into lengths and words."""
        noise, prompt, inverted = templates >> 2, (templates >> 1) & 1, templates & 1
        chance = _uniform(noise, np.arange(GAPS), self.seed)
        more = np.floor(np.log(np.maximum(chance, 1e-12)) / np.log(GO_ON)).astype(np.int64)
        words = np.where(prompt[:, None] == 1, PROMPT_WORDS, 1 + np.minimum(more, MOST_WORDS - 1))
        picked = _uniform(noise, GAPS + np.arange(GAPS * MOST_WORDS), self.seed)
        gaps = np.floor(picked * self.lexicon).astype(np.int64).reshape(-1, GAPS, MOST_WORDS)
        gaps[np.arange(MOST_WORDS) >= words[..., None]] = NOTHING
        slots = np.array([[PLAIN_SUBJECT, PLAIN_RELATION], [PLAIN_RELATION, PLAIN_SUBJECT]])[inverted]
        first, last = (np.tile(items, (len(noise), 1)) for items in (START, CLOSE))
        return np.concatenate([first, gaps[:, 0], slots[:, 0], gaps[:, 1], slots[:, 1], gaps[:, 2], last], axis=1)

    def draw(self, rng: np.random.Generator, n: int) -> Ids:
        """Fresh noise for each."""
        return rng.integers(0, NOISE, n) * 4 + (rng.random(n) < self.inversion)


def nonsense(rng: np.random.Generator, lexicon: int, inversion: float, asked: int, heldout: int) -> Drawn:
    """The grammar, with prompts in trained noise, in held-out noise, and in an order that is never trained."""
    forms = Nonsense(lexicon, inversion, int(rng.integers(2**62)))
    trained, unseen = (low + rng.choice(NOISE, n, replace=False) for low, n in ((0, asked), (NOISE, heldout)))
    order = int(inversion == 1)
    other = trained * 4 + 3 if inversion == 0 else np.empty(0, dtype=np.int64)
    return forms, Phrasings(asked=trained * 4 + 2 + order, heldout=unseen * 4 + 2 + order, reordered=other)


def _uniform(number: Ids, stream: Ids, seed: int) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1) for each of `number` [n] and `stream` [k]: [n, k], by splitmix64."""
    x = number.astype(np.uint64)[:, None] * np.uint64(64) + stream.astype(np.uint64)[None]
    with np.errstate(over="ignore"):
        x = x * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(11)) / np.float64(2**53)  # below 1, whatever the rounding
