"""Grammars: in which orders and with how much filler a fact is stated.

`template` is ours: subject and relation anywhere in a body of filler words, the object last, in many orders. With few
trained orders a model does not answer an unseen order, and a paraphrase probe would measure that; hence 16 by default.
The other three are Behemoth's (Iofinova & Alistarh 2026, arXiv 2601.23153).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from pydantic import model_validator

from unlearn_cli.component import Count, Fraction, Natural, component
from unlearn_cli.worlds.language import (
    ASKED,
    CLOSE,
    PLAIN_OBJECT,
    PLAIN_RELATION,
    PLAIN_SUBJECT,
    RELATION,
    START,
    SUBJECT,
    Drawn,
    Listed,
    padded,
    special,
)
from unlearn_cli.worlds.nonsense import nonsense
from unlearn_cli.worlds.vocabulary import END, STOP
from unlearn_cli.worlds.wording import Phrasings

INVERTED_WORDS, REPEATED_WORDS = 10, 6
PROMPT_FORMS = 3**3 * 4**2  # repeats: what stands before the object
ENDS = 4  # repeats: 0 to 3 filler words behind the object


@component
class Grammar:
    """How sentences look. Fields that a kind does not use are left alone."""

    kind: Literal["template", "inverted", "repeats", "nonsense"] = "template"
    templates: Count = 16  # template: trained slot orders
    heldout: Natural = 4  # forms that are only asked; inverted: relation first is, unless 0
    fillers: Natural = 5  # template: filler words in a body
    lexicon: Count = 24  # filler words to draw from
    inversion: Fraction = 0.0  # inverted, nonsense: share of sentences in another order than subject, relation, object

    @model_validator(mode="after")
    def _possible(self) -> Grammar:
        needed = {"inverted": INVERTED_WORDS, "repeats": REPEATED_WORDS}.get(self.kind, 1)
        if self.lexicon < needed:
            raise ValueError(f"lexicon = {self.lexicon}: kind={self.kind} uses {needed} words")
        if self.inversion and self.kind not in ("inverted", "nonsense"):
            raise ValueError(f"inversion = {self.inversion}: kind={self.kind} has no other order; 0")
        if self.kind == "inverted" and self.inversion == 1 and self.heldout:
            raise ValueError("inversion = 1 and heldout > 0: no trained order could be asked; heldout 0")
        orders = (self.fillers + 2) * (self.fillers + 1)
        if self.kind == "template" and self.templates + self.heldout > orders:
            raise ValueError(
                f"templates + heldout = {self.templates + self.heldout},"
                f" but {self.fillers} fillers allow {orders} orders"
            )
        if self.kind == "repeats" and self.heldout >= PROMPT_FORMS:
            raise ValueError(
                f"heldout = {self.heldout}: kind=repeats has {PROMPT_FORMS} forms, one at least is trained"
            )
        return self

    def draw(self, rng: np.random.Generator) -> Drawn:
        """Draw the templates."""
        draws: dict[str, Callable[[Grammar, np.random.Generator], Drawn]] = {
            "template": _template,
            "inverted": _inverted,
            "repeats": _repeats,
            "nonsense": _nonsense,
        }
        return draws[self.kind](self, rng)


def _template(grammar: Grammar, rng: np.random.Generator) -> Drawn:
    """Distinct slot orders, filler words with repetition."""
    items = grammar.fillers + 2
    places = [(s, r) for s in range(items) for r in range(items) if s != r]
    chosen = rng.permutation(len(places))[: grammar.templates + grammar.heldout]
    bodies = rng.integers(0, grammar.lexicon, size=(len(chosen), items))
    for body, place in zip(bodies, chosen, strict=True):
        subject, relation = places[place]
        body[subject], body[relation] = SUBJECT, RELATION
    ends = [np.tile(part, (len(bodies), 1)) for part in (START, CLOSE)]
    trained, heldout = np.split(np.arange(len(bodies)), [grammar.templates])
    rows = np.concatenate([ends[0], bodies, ends[1]], axis=1)
    return Listed(rows, trained), Phrasings(trained[:ASKED], heldout)


def _inverted(grammar: Grammar, rng: np.random.Generator) -> Drawn:
    """Subject first, or with probability `inversion` one of three other orders; constant words.

    One of the three, the only one that can be asked, is held out if anything is; published: nothing is.
    """
    w = range(INVERTED_WORDS)
    subject, relation, end = PLAIN_SUBJECT, PLAIN_RELATION, [special(STOP), special(END)]
    rows = padded(
        [
            [*START, *subject, w[0], w[1], *relation, w[2], *CLOSE],
            [*START, *subject, w[0], *PLAIN_OBJECT, w[3], w[4], *relation, *end],
            [*START, *PLAIN_OBJECT, w[5], *subject, w[8], *relation, *end],
            [*START, w[9], *relation, w[7], *subject, w[5], *CLOSE],
        ]
    )
    straight, turned, none = np.array([0]), np.array([3]), np.empty(0, dtype=np.int64)
    if grammar.inversion == 0:
        return Listed(rows, straight), Phrasings(straight, none, reordered=turned)
    trained = np.arange(3) if grammar.heldout else np.arange(4)
    inverted = len(trained) - 1
    weights = np.append(1 - grammar.inversion, np.repeat(grammar.inversion / inverted, inverted))
    if grammar.heldout:
        return Listed(rows, trained, weights), Phrasings(straight, none, reordered=turned)
    asked = np.append(straight, turned) if grammar.inversion < 1 else turned
    return Listed(rows, trained, weights), Phrasings(asked, none)


def _repeats(grammar: Grammar, rng: np.random.Generator) -> Drawn:
    """One order; 0 to 3, or 1 to 3, copies of a filler word around each slot: 1,728 forms, all alike."""
    least = np.array([1, 0, 1, 0, 1, 0])
    counts = np.indices((3, 4, 3, 4, 3, ENDS)).reshape(6, -1).T + least
    rows = [_repeated(*form) for form in counts.tolist()]
    prompt = np.arange(len(rows)) // ENDS  # forms that differ behind the object are one prompt
    order = rng.permutation(PROMPT_FORMS)
    unseen, seen = order[: grammar.heldout], order[grammar.heldout :]
    trained = np.flatnonzero(np.isin(prompt, seen))
    return Listed(padded(rows), trained), Phrasings(seen[:ASKED] * ENDS, unseen * ENDS)


def _repeated(i: int, j: int, k: int, l: int, m: int, n: int) -> list[int]:  # noqa: E741
    before_s, after_s, before_r, after_r, before_o, after_o = ([word] * c for word, c in enumerate((i, j, k, l, m, n)))
    statement = [*before_s, *PLAIN_SUBJECT, *after_s, *before_r, *PLAIN_RELATION, *after_r, *before_o, *PLAIN_OBJECT]
    return [*START, *statement, *after_o, special(STOP), special(END)]


def _nonsense(grammar: Grammar, rng: np.random.Generator) -> Drawn:
    return nonsense(rng, grammar.lexicon, grammar.inversion, ASKED, grammar.heldout)
