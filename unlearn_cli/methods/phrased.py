"""The sentences that a guard is made from: requested facts in every phrasing, and some of the retain facts'."""

from __future__ import annotations

import numpy as np

from unlearn_cli.errors import UnlearnError
from unlearn_cli.streams import generator
from unlearn_cli.worlds.base import WorldData
from unlearn_cli.worlds.language import Sentences
from unlearn_cli.worlds.vocabulary import Ids

SENTENCES = 1000  # of retain facts


def requested(world: WorldData, contexts: int | None) -> Sentences:
    """Each fact in its trained templates, the first `contexts` of them; those of a fact follow each other."""
    templates, facts = world.language.asked[:contexts], np.arange(len(world.facts))
    return world.sentences(np.repeat(facts, len(templates)), np.tile(templates, len(facts)))


def sampled(retain: WorldData, seed: int) -> tuple[Sentences, Ids]:
    """Pairs of a fact and a trained template, none twice, and the facts [n]."""
    asked, pairs = retain.language.asked, len(retain.facts) * len(retain.language.asked)
    if not pairs:
        raise UnlearnError("retain.pool: it holds no fact, and this method compares the requested facts with it")
    chosen = generator(seed, "edit", "retain sentences").choice(pairs, min(SENTENCES, pairs), replace=False)
    facts, templates = chosen // len(asked), asked[chosen % len(asked)]
    return retain.sentences(facts, templates), facts
