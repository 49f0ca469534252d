"""How probable each object is where nothing is asked: what makes some options likely whatever the question."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from unlearn_cli.component import component
from unlearn_cli.evaluation import Arrays
from unlearn_cli.observations.base import Observation, Scene
from unlearn_cli.worlds.language import Sentences


@component
class ObjectPriors(Observation):
    """Log P(object | what stands before every object, and nothing else): without subject and relation."""

    VERSION: ClassVar[int] = 1

    def observe(self, model: Any, scene: Scene) -> Arrays:
        """`logps` [R', O], nats; -inf where a relation has fewer objects."""
        from unlearn_cli.observations.scoring import token_statistics

        world, before = scene.world, scene.world.vocabulary.prelude
        logps = np.full((len(world.relations), world.objects), -np.inf)
        for relation in range(len(world.relations)):
            words = world.candidates(relation)
            n, tokens = words.shape
            rows = np.concatenate([np.tile(before, (n, 1)), words], axis=1)
            start, nothing = np.full(n, len(before)), np.full(n, -1)
            lengths = world.candidate_lengths(relation)
            ends = len(before) + (np.full(n, tokens) if lengths is None else lengths)
            asked = Sentences(rows, start, ends, tokens, nothing, lengths)
            own = token_statistics(model, asked, scene.batch_size)["logp"][:, len(before) - 1 :]
            logps[relation, :n] = np.where(asked.answer_places, own, 0).sum(axis=1)
        return {"logps": logps}
