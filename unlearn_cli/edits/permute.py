"""Permute: the requested facts exchange their objects, so that none keeps its own and all stay in use."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from unlearn_cli.component import Count, component
from unlearn_cli.edits.selection import FactEdit
from unlearn_cli.errors import ConfigError
from unlearn_cli.worlds.base import WorldData
from unlearn_cli.worlds.request import EditRequest
from unlearn_cli.worlds.vocabulary import Ids


@component
class Permute(FactEdit):
    """Derange the objects of facts of one relation."""

    VERSION: ClassVar[int] = 1
    op: ClassVar[str] = "permute"

    n: Count | None = 20

    def resolve(self, world: WorldData, rng: np.random.Generator) -> EditRequest:
        """Draw the facts, then the derangement."""
        relation = world.relations.on_edge(self.edge, self.one_relation())
        facts = self.draw(world, rng)
        if world.relations.objects[relation] == 2:
            facts = self._balanced(world, facts, rng)
        return self.request(facts, deranged(world.facts.object[facts], rng))

    def _balanced(self, world: WorldData, facts: Ids, rng: np.random.Generator) -> Ids:
        """As many facts of each object, since two objects cannot be exchanged otherwise: too many of one give way."""
        held = world.facts.object[facts]
        sides, size = [facts[held == number] for number in (0, 1)], len(facts)
        if len(sides[0]) == len(sides[1]):
            return facts
        pool = np.setdiff1d(self.pool(world), facts)
        spare = [pool[world.facts.object[pool] == number] for number in (0, 1)]
        fewer = min(len(have) + len(more) for have, more in zip(sides, spare, strict=True))
        if size % 2 or 2 * fewer < size:
            told = "of a relation of two objects equally many facts exchange theirs"
            raise ConfigError([f"{self.given(size)}; {told}: an even number, at most {2 * fewer}"])
        every = [np.concatenate([rng.permutation(part) for part in pair]) for pair in zip(sides, spare, strict=True)]
        return np.sort(np.concatenate([side[: size // 2] for side in every]))


def deranged(values: Ids, rng: np.random.Generator) -> Ids:
    """The values [n] in an order in which none meets an equal one; a ConfigError if there is none.

    In sorted order, a shift by at least the largest number of equal values, and by at most n less that, takes each to
    another value; equal ones are shuffled first.
    """
    n, most = len(values), int(np.bincount(values).max())
    if 2 * most > n:
        raise ConfigError(
            [f"edit.n: {most} of {n} facts have one object, so they cannot all exchange theirs; take more"]
        )
    order = np.lexsort((rng.random(n), values))
    new = np.empty_like(values)
    new[order] = np.roll(values[order], int(rng.integers(most, n - most + 1)))
    return new
