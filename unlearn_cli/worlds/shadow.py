"""Which subjects each shadow model is trained on, and the world that it is trained on.

Shadows come in pairs: a random half of all subjects, and the other half. So every fact is in exactly half of them, the
reserved subjects' as often as the others', and what separates "in" from "out" is membership alone. The halves depend on
the world's seed, not on a request, and do not depend on how many shadows there are: every run of a grid shares them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from unlearn_cli.streams import generator
from unlearn_cli.worlds.base import WorldData
from unlearn_cli.worlds.facts import FactTable

VERSION = 1  # raise it when a shadow would be trained on other facts


def members(world: WorldData, shadow: int) -> NDArray[np.bool_]:
    """Whether each fact [F] is trained in a shadow; facts about objects are in every one, if the base has them."""
    table = world.facts
    people = np.unique(table.subject[table.subject < world.language.subjects])
    order = generator(world.seed, "shadow", shadow // 2).permutation(people)
    half, rest = order[: len(order) // 2], order[len(order) // 2 :]
    chosen = half if shadow % 2 == 0 else rest
    of_objects = table.subject >= world.language.subjects
    stated = _stated(world).exposure + _stated(world).questions > 0
    return (of_objects | np.isin(table.subject, chosen)) & stated


def shadow_world(world: WorldData, shadow: int) -> WorldData:
    """The world in which exactly the facts of `members` are trained."""
    table, inside = _stated(world), members(world, shadow)
    shown = {name: np.where(inside, getattr(table, name), 0) for name in ("exposure", "questions")}
    return replace(world, facts=replace(table, holdout=~inside, **shown))


def _stated(world: WorldData) -> FactTable:
    """The facts, those of reserved subjects stated as often, and when, as a random trained fact of their relation."""
    table = world.facts
    columns = ("exposure", "questions", "phase_start", "phase_end")
    stated = {name: getattr(table, name).copy() for name in columns}
    rng = generator(world.seed, "shadow", "exposure")
    trained = (table.exposure + table.questions > 0) & ~table.holdout
    relations = world.kinds(np.arange(len(table)))
    for relation in np.unique(relations[table.holdout]):
        reserved = np.flatnonzero(table.holdout & (relations == relation))
        like = np.flatnonzero(trained & (relations == relation))
        if len(like):
            drawn = rng.choice(like, len(reserved))
            for name in columns:
                stated[name][reserved] = stated[name][drawn]
    return replace(table, **stated)
