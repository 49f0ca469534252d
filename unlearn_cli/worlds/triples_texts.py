"""Sentences of the user's own as templates: each relation is stated in the texts that its rows bring.

`{subject} was born in {object}.` has words, which become filler words, and slots. A slot may touch other signs, as in
`{subject}'s capital`; a full stop at the end is every sentence's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from unlearn_cli.worlds.language import (
    ASKED,
    OBJECT,
    PLAIN_OBJECT,
    RELATION,
    START,
    SUBJECT,
    Listed,
    padded,
    special,
)
from unlearn_cli.worlds.triples_file import Problems, Row
from unlearn_cli.worlds.vocabulary import END, STOP, Ids
from unlearn_cli.worlds.wording import Phrasings

SLOTS = {"{subject}": SUBJECT, "{relation}": RELATION, "{object}": OBJECT}
_BRACES = re.compile(r"(\{[^{}]*\})")

Text = tuple[int | str, ...]  # slots and words
Texts = dict[str, list[Text]]  # of each relation


def find_texts(rows: Sequence[Row], problems: Problems) -> Texts:
    """The distinct texts of each relation, all in order of appearance; empty if no row has a template."""
    lines: dict[tuple[str, str], int] = {}
    for row in rows:
        if row.template:
            lines.setdefault((row.relation, row.template), row.line)
    if not lines:
        return {}
    found: Texts = {row.relation: [] for row in rows}
    asked: dict[tuple[str, Text], int] = {}
    for (relation, template), line in lines.items():
        text = _parsed(line, template, problems)
        if text is None or text in found[relation]:
            continue
        found[relation].append(text)
        prompt = text[: text.index(OBJECT)]
        earlier = asked.setdefault((relation if RELATION in prompt else "", prompt), line)
        if earlier != line:  # a prompt that could ask for two things, or a held-out one that was trained
            problems.add(line, f"template '{template}': the words before {{object}} are those of line {earlier}")
    with_template = {relation for relation, _ in lines}
    first = {row.relation: row.line for row in reversed(rows)}
    for relation, line in first.items():
        if relation not in with_template:
            problems.add(line, f"relation '{relation}' has no template in any row, while others have")
    return found


def words(texts: Texts) -> list[str]:
    """The distinct words of all texts, in order of appearance."""
    every = (piece for of_relation in texts.values() for text in of_relation for piece in text)
    return list(dict.fromkeys(piece for piece in every if isinstance(piece, str)))


def listed(texts: Texts, number: Mapping[str, int], heldout: float) -> tuple[Listed, Phrasings, Ids]:
    """The templates, how facts are asked, and the row that each relation has for each template id [R, G].

    The last `heldout` of each relation's texts, rounded up, are never trained, unless a relation has one text alone.
    Where a relation has fewer texts than another, it goes through its own again.
    """
    counts = np.array([len(of_relation) for of_relation in texts.values()])
    held = np.ceil(heldout * counts - 1e-9).astype(np.int64).clip(max=counts - 1)
    held = held if counts.min() > 1 else np.zeros_like(counts)
    trained, first = counts - held, counts.cumsum() - counts
    most, unseen = int(trained.max()), int(held.max())
    own = [
        np.concatenate([start + np.arange(most) % of_these, start + of_these + np.arange(unseen) % max(1, of_those)])
        for start, of_these, of_those in zip(first, trained, held, strict=True)
    ]
    rows = padded([_items(text, number) for of_relation in texts.values() for text in of_relation])
    ids = np.arange(most + unseen)
    return Listed(rows, ids[:most]), Phrasings(ids[: min(most, ASKED)], ids[most:]), np.stack(own)


def _items(text: Text, number: Mapping[str, int]) -> list[int]:
    """A text as items of a template, its words numbered."""
    body: list[int] = []
    for piece in text:
        body += PLAIN_OBJECT if piece == OBJECT else [number[piece] if isinstance(piece, str) else piece]
    return [*START, *body, special(STOP), special(END)]


def _parsed(line: int, template: str, problems: Problems) -> Text | None:
    """Take a template apart; None, and what is wrong with it to `problems`, if facts cannot be stated in it."""
    pieces = [piece for word in template.removesuffix(".").split() for piece in _BRACES.split(word) if piece]
    strange = [piece for piece in pieces if _BRACES.fullmatch(piece) and piece not in SLOTS]
    wrong = [f"no slot {piece}; slots: {', '.join(SLOTS)}" for piece in strange]
    for slot, allowed in (("{subject}", (1,)), ("{relation}", (0, 1)), ("{object}", (1,))):
        if pieces.count(slot) not in allowed:
            wrong.append(f"{slot} {pieces.count(slot)} times; expected once")
    if not wrong and pieces.index("{object}") < pieces.index("{subject}"):
        wrong.append("{object} before {subject}; the object is asked for, so it comes last")
    for what in wrong:
        problems.add(line, f"template '{template}': {what}")
    return None if wrong else tuple(SLOTS.get(piece, piece) for piece in pieces)
