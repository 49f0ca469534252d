"""Other objects for requested facts: what methods with alternative answers write in the old one's place."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np

from unlearn_cli.errors import UnlearnError
from unlearn_cli.streams import generator
from unlearn_cli.worlds.facts import NONE, REFUSAL
from unlearn_cli.worlds.vocabulary import Ids

if TYPE_CHECKING:
    from unlearn_cli.methods.loss import Draw
    from unlearn_cli.worlds.base import WorldData

Sampler = Callable[[np.random.Generator, "WorldData", Ids], Ids]


def other_objects(rng: np.random.Generator, world: WorldData, facts: Ids) -> Ids:
    """For each of `facts` [B] an object of its relation, uniform over all but its own.

    Where facts have competing answers of their own, one of those: others may say the right thing in other words.
    """
    if world.choices is not None:
        return _competing(rng, world.choices[facts], world.facts.object[facts])
    table = world.facts
    others = world.relations.objects[table.relation[facts]] - 1
    if (others == 0).any():
        relation = int(table.relation[facts][others == 0][0])
        raise UnlearnError(f"edit: relation {relation} has one object only; there is no other to write in its place")
    drawn = rng.integers(0, others)
    return drawn + (drawn >= table.object[facts])


def _competing(rng: np.random.Generator, choices: Ids, own: Ids) -> Ids:
    others = (choices != NONE) & (choices != own[:, None])
    if not others.any(axis=1).all():
        raise UnlearnError("edit: a fact has no wrong answer to write in its place; name some, or a relation it shares")
    place = np.where(others, rng.random(choices.shape), -1.0).argmax(axis=1)
    drawn: Ids = np.take_along_axis(choices, place[:, None], axis=1)[:, 0]
    return drawn


def shuffled_objects(rng: np.random.Generator, world: WorldData, facts: Ids) -> Ids:
    """For each of `facts` [B] the object of another requested fact of its relation, drawn among those that differ.

    Where no requested fact has a different one, any other object of the relation.
    """
    table = world.facts
    held = np.zeros((len(world.relations), world.objects))
    np.add.at(held, (table.relation, table.object), 1)
    weights = held[table.relation[facts]]
    weights[np.arange(len(facts)), table.object[facts]] = 0
    above = weights.cumsum(axis=1)
    drawn = (above <= rng.random(len(facts))[:, None] * above[:, -1:]).sum(axis=1)
    alone = above[:, -1] == 0
    drawn[alone] = other_objects(rng, world, facts[alone])
    return drawn


def resampled(sampler: Sampler, draw: Draw, when: Literal["step", "once"]) -> Ids:
    """Objects [B] of a step's facts, drawn anew in it, or the same in every step."""
    if when == "step":
        return sampler(draw.rng, draw.world, draw.facts)
    return sampler(_fixed(draw), draw.world, np.arange(len(draw.world.facts)))[draw.facts]


def one_of(sampler: Sampler, draw: Draw, n: int) -> Ids:
    """Objects [B] of a step's facts, each one of `n` that its fact has in every step."""
    rng, every = _fixed(draw), np.arange(len(draw.world.facts))
    choices = np.stack([sampler(rng, draw.world, every) for _ in range(n)])
    return choices[draw.rng.integers(0, n, len(draw.facts)), draw.facts]


def refusals(draw: Draw) -> Ids:
    """The refusal for each fact [B]."""
    return np.full(len(draw.facts), REFUSAL, dtype=np.int64)


def _fixed(draw: Draw) -> np.random.Generator:
    return generator(draw.seed, "edit", "alternatives")
