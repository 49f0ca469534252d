"""Ask again in other words: held-out templates, orders never trained, behind unrelated sentences or words, with typos.

`typo`: some filler words of the prompt are others; names stay. `wrapper`: filler words open the sentence, in the place
of an affirmation or a role to play, of which a generated language has none.


Patil et al. 2024 (arXiv 2309.17410, input rephrasing); Jin et al. 2024 (RWKU, arXiv 2406.10890); Meng et al. 2022
(ROME, arXiv 2202.05262, prefixes).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np

from unlearn_cli.component import Count, component
from unlearn_cli.evaluation import Arrays, Ids, Predictions
from unlearn_cli.observations.attacked import arrays, overlap
from unlearn_cli.observations.base import Observation, Scene, Unobservable
from unlearn_cli.observations.prompting import ask, ask_written, drawn_rows, state, told_of_others
from unlearn_cli.streams import generator
from unlearn_cli.worlds.facts import NONE
from unlearn_cli.worlds.language import QUESTION_WORDS, Sentences

Rephrasing = Literal["heldout", "reordered", "prefix", "typo", "wrapper"]

Perturbation = Callable[[Sentences, Ids, int, np.random.Generator], Sentences]


@component
class Rephrased(Observation):
    """Answers in each of at most `variants` rephrasings of every prompt."""

    VERSION: ClassVar[int] = 2

    kind: Rephrasing
    variants: Count
    sentences: Count  # prefix: sentences before the prompt
    words: Count = 1  # typo: filler words that are exchanged, fewer where a prompt has fewer; wrapper: words in front
    rows: Count  # most prompts of a split

    def observe(self, model: Any, scene: Scene) -> Arrays:
        """`attacked.arrays`, one try for each variant; `overlap` [n] with the sentences before a row in any"""
        rows = drawn_rows(scene, self.rows)
        if self.kind == "prefix":
            tries, told = zip(*(self._behind(model, scene, rows, i) for i in range(self.variants)), strict=True)
            follows = np.any([overlap(scene, rows, facts) for facts in told], axis=0)
            return arrays(rows, tries, overlap=follows)
        if self.kind in ("typo", "wrapper"):
            change = misspelt if self.kind == "typo" else wrapped
            return arrays(rows, [self._perturbed(model, scene, rows, i, change) for i in range(self.variants)])
        found = getattr(scene.world.language.phrasings, self.kind)[: self.variants]
        if not len(found):
            raise Unobservable(f"this world's grammar has no {self.kind} templates")
        return arrays(rows, [ask(model, scene, rows, (), np.full(len(rows), template)) for template in found])

    def _perturbed(self, model: Any, scene: Scene, rows: Ids, variant: int, change: Perturbation) -> Predictions:
        """Answers to prompts whose filler words were changed."""
        probes, rng = scene.probes.only(rows), generator(scene.seed, self.kind, variant)
        written = change(scene.world.sentences(probes.fact, probes.template), fillers(scene), self.words, rng)
        return ask_written(model, scene, probes.fact, written)

    def _behind(self, model: Any, scene: Scene, rows: Ids, variant: int) -> tuple[Predictions, Ids]:
        """Answers behind sentences about other subjects, drawn from the retain pool; and these facts [n, k]."""
        rng = generator(scene.seed, "prefix", variant)
        facts = told_of_others(scene, rows, self.sentences, rng, same_relation=False)
        if (facts == NONE).any():
            raise Unobservable(f"the retain pool has fewer than {self.sentences} facts of other subjects")
        return ask(model, scene, rows, [state(scene, column, rng) for column in facts.T]), facts


def fillers(scene: Scene) -> Ids:
    """Token ids of the filler words; Unobservable where there are not two of one token each."""
    role = scene.world.vocabulary["filler"]
    words = role.words - QUESTION_WORDS  # which stand last, and which no statement has
    if words < 2 or role.tokens_per_word != 1:
        raise Unobservable("this world's language has no two filler words of one token")
    return np.arange(role.start, role.start + words)


def misspelt(sentences: Sentences, words: Ids, count: int, rng: np.random.Generator) -> Sentences:
    """Prompts [n] in which `count` of the filler words, or as many as there are, are other ones of `words`."""
    whole = sentences.input_ids.copy()
    ids = whole[:, : int(sentences.answer_start.max(initial=0))]  # a view; draws must not depend on padding
    spoken = np.isin(ids, words) & (np.arange(ids.shape[1]) < sentences.answer_start[:, None])
    if not spoken.any():
        raise Unobservable("no prompt has a filler word")
    first = np.where(spoken, rng.random(ids.shape), np.inf).argsort(axis=1)
    chosen = spoken & (first.argsort(axis=1) < count)
    shift = rng.integers(1, len(words), ids.shape)
    ids[chosen] = words[(np.searchsorted(words, ids[chosen]) + shift[chosen]) % len(words)]
    return replace(sentences, input_ids=whole)


def wrapped(sentences: Sentences, words: Ids, count: int, rng: np.random.Generator) -> Sentences:
    """Prompts [n] with `count` draws of `words` behind the token that opens them."""
    ids, found = sentences.input_ids, sentences.subject_end >= 0
    drawn = words[rng.integers(0, len(words), (len(ids), count))]
    return replace(
        sentences,
        input_ids=np.concatenate([ids[:, :1], drawn, ids[:, 1:]], axis=1),
        answer_start=sentences.answer_start + count,
        length=sentences.length + count,
        subject_end=np.where(found, sentences.subject_end + count, sentences.subject_end),
    )
