"""What a model makes of its own answers: the two hops subject -> object -> nested object, and the direct way."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from unlearn_cli.component import component
from unlearn_cli.evaluation import Arrays, Ids, ProbeSet
from unlearn_cli.observations.base import Observation, Scene
from unlearn_cli.worlds.base import WorldData
from unlearn_cli.worlds.facts import NONE


@component
class Hops(Observation):
    """Greedy answers along the chains that begin with a requested fact, all in the template of that probe."""

    VERSION: ClassVar[int] = 2

    def observe(self, model: Any, scene: Scene) -> Arrays:
        """`rows` [n] of `forget` that a chain begins with, none without nested objects, and answers to them.

        `first` [n]: object of the subject. `second` [n]: nested object of that answer, where `asked` [n]; there is no
        such question if the answer is no object, or one that nobody has. `direct` [n]: nested object of the subject.
        """
        from unlearn_cli.predict import predict

        world, probes = scene.world, scene.probes
        rows = np.unique(probes.splits["forget"].rows)
        inherited = _inherited(world)[probes.fact[rows]]
        rows, inherited = rows[inherited != NONE], inherited[inherited != NONE]
        if not len(rows):
            return {name: rows for name in ("rows", "first", "second", "asked", "direct")}
        template = probes.template[rows]

        def answers(facts: Ids, templates: Ids) -> Ids:
            asked = ProbeSet(facts, templates, world.facts.subject[facts], probes.objects, splits={})
            return predict(model, world, asked, scene.batch_size).greedy

        first = answers(probes.fact[rows], template)
        bridge = _bridge(world, world.facts.relation[probes.fact[rows]], first)
        second = np.full(len(rows), NONE)
        found = bridge != NONE
        second[found] = answers(bridge[found], template[found])
        return {"rows": rows, "first": first, "second": second, "asked": found, "direct": answers(inherited, template)}


def _inherited(world: WorldData) -> Ids:
    """For each fact subject -> object the fact subject -> nested object that follows from it, or NONE: [F]."""
    facts, found = world.facts, np.full(len(world.facts), NONE)
    child = np.flatnonzero(facts.derived & (world.nesting is not None))
    found[facts.parents[child, 0]] = child
    return found


def _bridge(world: WorldData, relation: Ids, objects: Ids) -> Ids:
    """The facts object -> nested object about objects [n] of relations [n], or NONE."""
    facts, relations = world.facts, world.relations
    stating = np.flatnonzero(relations.edge[facts.relation] == "on")
    table = np.full((relations.base, relations.entities), NONE)
    table[facts.relation[stating] - 2 * relations.base, facts.subject[stating]] = stating
    known = objects >= 0
    return np.where(known, table[relation, relations.entity(relation, np.where(known, objects, 0))], NONE)
