"""Ask step by step: other questions first, the model's own answers fed back, or the answer by elimination.

Adversarial dialogues after Sleek (arXiv 2506.17279); the protocol on generated facts is this project's.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from unlearn_cli.component import Count, component
from unlearn_cli.evaluation import Arrays, Floats, Ids, Predictions
from unlearn_cli.observations.attacked import arrays
from unlearn_cli.observations.base import Observation, Scene, Unobservable
from unlearn_cli.observations.contexts import in_context, only_where
from unlearn_cli.observations.prompting import ask, ask_written, drawn_rows, told_of_the_subject
from unlearn_cli.streams import generator
from unlearn_cli.worlds.facts import NONE
from unlearn_cli.worlds.language import Sentences


@component
class Dialogue(Observation):
    """Answers after `hops` questions about the same subject, whose answers stand in the transcript."""

    VERSION: ClassVar[int] = 1

    hops: Count  # questions before the one that counts, fewer where the subject has fewer other facts
    rows: Count  # most prompts of a split

    def observe(self, model: Any, scene: Scene) -> Arrays:
        """`attacked.arrays` with one try; rows whose subject has no other fact are left out."""
        rows, rng = drawn_rows(scene, self.rows), generator(scene.seed, "dialogue")
        asked = told_of_the_subject(scene, rows, self.hops, rng, leak=True)
        several = asked[:, 0] != NONE
        if not np.isin(rows[several], scene.probes.splits["forget"].rows).any():
            raise Unobservable("no requested subject has another fact to begin with")
        rows, asked = rows[several], asked[several]
        told: list[Sentences] = []
        for facts in asked.T:
            told.append(self._answered(model, scene, facts, told, rng))
        return arrays(rows, [ask(model, scene, rows, told)])

    def _answered(
        self, model: Any, scene: Scene, facts: Ids, told: list[Sentences], rng: np.random.Generator
    ) -> Sentences:
        """Facts [n] on the object that the model takes for the most probable behind what is told; NONE says nothing."""
        asked, there = scene.world.language.asked, facts != NONE
        facts, templates = np.maximum(facts, 0), asked[rng.integers(0, len(asked), len(facts))]
        answers = ask_written(model, scene, facts, in_context(told, scene.world.sentences(facts, templates)))
        return only_where(scene.world.sentences(facts, templates, answers.candidate_logps.argmax(1)), there)


@component
class Eliminated(Observation):
    """P(o) ~ P(o | s, r) sum_n P(n | s inherits by r) P(n | o has): the question itself, and what must fit with it."""

    VERSION: ClassVar[int] = 1

    rows: Count  # most prompts of a split

    def observe(self, model: Any, scene: Scene) -> Arrays:
        """`attacked.arrays` with one try; rows of other facts than subject -> object are left out."""
        world, relations = scene.world, scene.world.relations
        if world.nesting is None:
            raise Unobservable("no fact of this world follows from another: there is nothing to eliminate by")
        rows = drawn_rows(scene, self.rows)
        rows = rows[relations.edge[world.facts.relation[scene.probes.fact[rows]]] == "so"]
        if not np.isin(rows, scene.probes.splits["forget"].rows).any():
            raise Unobservable("no requested fact says which object a subject has: there is nothing to eliminate by")
        direct = ask(model, scene, rows, ())
        logps = np.full_like(direct.candidate_logps, -np.inf)
        relation = world.facts.relation[scene.probes.fact[rows]]
        for r in np.unique(relation):
            mine = np.flatnonzero(relation == r)
            count = int(relations.objects[r])
            fits = self._fits(model, scene, rows[mine], int(r), count)
            logps[mine, :count] = _normalised(
                direct.candidate_logps[mine, :count].astype(np.float64) + np.log(np.maximum(fits, TINY))
            )
        return arrays(rows, [Predictions(logps, logps.argmax(1), direct.refusal_logps)])

    def _fits(self, model: Any, scene: Scene, rows: Ids, relation: int, objects: int) -> Floats:
        """Probability [n, O] that each object's nested value is the one that the subject inherits."""
        relations, table = scene.world.relations, scene.world.facts
        templates = scene.probes.template[rows]
        inherited = _beliefs(model, scene, relation + relations.base, table.subject[scene.probes.fact[rows]], templates)
        used, which = np.unique(templates, return_inverse=True)
        entities = relations.entity(np.full(objects, relation), np.arange(objects))
        every = _beliefs(
            model, scene, relation + 2 * relations.base, np.tile(entities, len(used)), np.repeat(used, objects)
        ).reshape(len(used), objects, -1)
        found: Floats = np.einsum("nm,nom->no", inherited, every[which])
        return found


TINY = 1e-30  # below what a probability in float32 resolves


def _beliefs(model: Any, scene: Scene, relation: int, subject: Ids, templates: Ids) -> Floats:
    """P(object) [n, M] among those of `relation`, for any entities [n], whether the world has such a fact or not."""
    world = scene.world
    some = np.flatnonzero(world.facts.relation == relation)[:1]
    if not len(some):
        raise Unobservable("the world states no such nested fact")
    facts = np.repeat(some, len(subject))
    relations, nothing = np.full(len(subject), relation), np.zeros(len(subject), dtype=np.int64)
    written = world.language.write(templates, subject, relations, nothing)
    answers = ask_written(model, scene, facts, written)
    return np.exp(_normalised(answers.candidate_logps[:, : int(world.relations.objects[relation])].astype(np.float64)))


def _normalised(logps: Floats) -> Floats:
    top = logps.max(-1, keepdims=True)
    found: Floats = logps - (top + np.log(np.exp(logps - top).sum(-1, keepdims=True)))
    return found
