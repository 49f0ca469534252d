"""Tell a fact in the prompt and ask it: by itself, by what implies it, falsely, or something else.

Shumailov et al. 2024 (arXiv 2407.00106, UnUnlearning); the conditions are this project's.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from unlearn_cli.component import Count, component
from unlearn_cli.evaluation import Arrays, Ids
from unlearn_cli.observations.attacked import arrays
from unlearn_cli.observations.base import Observation, Scene, Unobservable
from unlearn_cli.observations.contexts import only_where
from unlearn_cli.observations.prompting import ask, drawn_rows, state, told_of_others
from unlearn_cli.streams import generator
from unlearn_cli.worlds.facts import NONE
from unlearn_cli.worlds.language import Sentences

CONDITIONS = ("none", "direct", "false", "irrelevant", "compositional")  # order of the tries


@component
class Reintroduced(Observation):
    """Answers under each of CONDITIONS."""

    VERSION: ClassVar[int] = 1

    rows: Count  # most prompts of a split

    def observe(self, model: Any, scene: Scene) -> Arrays:
        """`attacked.arrays`, one try for each condition; `false` [n] the object told falsely, `implied` [n] whether the
        compositional premises exist."""
        rows, rng = drawn_rows(scene, self.rows), generator(scene.seed, "reintroduced")
        table = scene.world.facts
        facts = scene.probes.fact[rows]
        false = self._false(scene, facts, rng)
        other = told_of_others(scene, rows, 1, rng, same_relation=False)[:, 0]
        if (other == NONE).any():
            raise Unobservable("the retain pool has no fact of another subject")
        premises = premises_of(scene, facts)
        implied = (premises != NONE).all(1)
        told: dict[str, list[Sentences]] = {
            "none": [],
            "direct": [_in_other_words(scene, rows, rng, table.object[facts])],
            "false": [_in_other_words(scene, rows, rng, false)],
            "irrelevant": [state(scene, other, rng)],
            "compositional": [only_where(state(scene, np.maximum(p, 0), rng), implied) for p in premises.T],
        }
        tries = [ask(model, scene, rows, told[condition]) for condition in CONDITIONS]
        return arrays(rows, tries, false=false, implied=implied)

    def _false(self, scene: Scene, facts: Ids, rng: np.random.Generator) -> Ids:
        """Another object of each fact's relation, drawn evenly."""
        table, relations = scene.world.facts, scene.world.relations
        objects = relations.objects[table.relation[facts]]
        if (objects < 2).any():
            raise Unobservable("a relation has one object only: nothing false can be told")
        return (table.object[facts] + 1 + (rng.random(len(facts)) * (objects - 1)).astype(np.int64)) % objects


def _in_other_words(scene: Scene, rows: Ids, rng: np.random.Generator, objects: Ids) -> Sentences:
    """The facts of `rows` on `objects`, each in a trained template other than its prompt's if there is another."""
    asked, given = scene.world.language.asked, scene.probes.template[rows]
    place = rng.integers(0, len(asked), len(rows))
    place = np.where(asked[place] == given, (place + 1) % len(asked), place)
    return scene.world.sentences(scene.probes.fact[rows], asked[place], objects)


def premises_of(scene: Scene, facts: Ids) -> Ids:
    """Two facts [n, 2] that imply each fact, or name its object by what follows from it; NONE where there are none."""
    world = scene.world
    table, relations = world.facts, world.relations
    out = table.parents[facts].copy()
    if world.nesting is None:
        return out
    key = table.relation * relations.entities + table.subject
    order = np.argsort(key, kind="stable")

    def fact(relation: Ids, subject: Ids) -> Ids:
        wanted = relation * relations.entities + subject
        place = np.minimum(np.searchsorted(key[order], wanted), len(key) - 1)
        return np.where(key[order[place]] == wanted, order[place], NONE)

    plain = (relations.edge[table.relation[facts]] == "so") & (table.object[facts] >= 0)
    asked = facts[plain]
    relation, objects = table.relation[asked], table.object[asked]
    out[plain, 0] = fact(relation + relations.base, table.subject[asked])
    out[plain, 1] = fact(relation + 2 * relations.base, relations.entity(relation, objects))
    return out
