"""Restore: bring back what a base knew before wrong facts were taught to it.

RESTOR (Rezaei et al. 2024, arXiv 2411.00204): a clean model is trained on with wrong facts, and unlearning these is to
bring back its own answers. The clean base is fine-tuned on a wrong object for each requested fact, with right facts
mixed in; that is the base of the run. The wrong objects are the old ones, the world's own the new ones, so that gold,
trained on the world as it is, is a clean model. Published: continued pre-training on documents that state many wrong
facts of an entity among right ones; here sentences in the trained templates, with the loss on the objects alone.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from unlearn_cli.component import Count, component
from unlearn_cli.edits.base import Corruption
from unlearn_cli.edits.remap import other_objects
from unlearn_cli.edits.selection import FactEdit
from unlearn_cli.errors import ConfigError
from unlearn_cli.worlds.base import WorldData
from unlearn_cli.worlds.facts import NONE
from unlearn_cli.worlds.request import EditRequest
from unlearn_cli.worlds.vocabulary import Ids


@component
class Restore(FactEdit):
    """Teach the base a wrong object for each fact; the edit is to undo that."""

    VERSION: ClassVar[int] = 1
    op: ClassVar[str] = "restore"

    n: Count | None = 20
    corruption: Corruption = Field(default_factory=Corruption)

    def pool(self, world: WorldData) -> Ids:
        """Facts with one right object, of relations that have a wrong one; of a contested fact none is clean."""
        pool = super().pool(world)
        facts, relations = world.facts, world.relations
        clean = (facts.alternative[pool] == NONE) & (relations.objects[facts.relation[pool]] > 1)
        if len(pool) and not clean.any():
            raise ConfigError(
                ["edit: restore needs facts that are not contested, of a relation with two objects or more; none is"]
            )
        return pool[clean]

    def resolve(self, world: WorldData, rng: np.random.Generator) -> EditRequest:
        """Draw the facts, then their wrong objects."""
        facts = self.draw(world, rng)
        return self.request(facts, world.facts.object[facts], old_object=other_objects(world, facts, rng))

    def corrupts(self) -> Corruption:
        """How the wrong objects are taught."""
        return self.corruption
