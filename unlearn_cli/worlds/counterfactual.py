"""The world as if a request had always held: what follows from what, and what changes with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from unlearn_cli.worlds.facts import NONE, REFUSAL, FactTable, Relations
from unlearn_cli.worlds.request import EditRequest
from unlearn_cli.worlds.vocabulary import Ids

# What every fact holds [F], and which facts it follows from [F, P], when what is derived is derived anew.
Derivation = Callable[[FactTable], tuple[Ids, Ids]]


@dataclass(frozen=True, eq=False)
class Consequences:
    """Facts that are told to follow from requested ones: each holds its new object once all of its parents do."""

    new_object: Ids  # [F] of requested facts and of what follows from them; NONE for others

    def derive(self, facts: FactTable) -> tuple[Ids, Ids]:
        """A `Derivation`."""
        changed = np.append(facts.object == self.new_object, True)  # the last place stands for NONE
        follows = facts.derived & changed[facts.parents].all(axis=1)
        return np.where(follows, self.new_object, facts.object), facts.parents


@dataclass(frozen=True, eq=False)
class Nesting:
    """The balanced maps g_r from the objects of each base relation to its nested ones."""

    value: Ids  # [R, O]
    nested: int  # M


def derive(facts: FactTable, relations: Relations, nesting: Nesting) -> tuple[Ids, Ids]:
    """Objects [F] and parents [F, 2] when every derived fact follows from its parents.

    s -> nested object is g(o) of the object o that s has, with g as the object -> nested facts state it; for an object
    that has no such fact, as the world drew it. A parent that is refused leaves its dependents alone.
    """
    objects, parents = facts.object.copy(), facts.parents.copy()
    value, stated_by = _nested_values(facts, relations, nesting)
    child = np.flatnonzero(facts.derived)
    parent = parents[child, 0]
    held = objects[parent]
    child, held = child[held >= 0], held[held >= 0]
    relation = facts.relation[parents[child, 0]]
    objects[child] = value[relation, held]
    parents[child, 1] = stated_by[relation, held]
    return objects, parents


def apply(facts: FactTable, derivation: Derivation | None, request: EditRequest) -> FactTable:
    """The facts after `request`; requested facts are taken as they are told, dependents follow unless isolated."""
    if request.new_object is None:
        return _forgotten(facts, request)
    if request.op == "restore":
        return facts  # only the base was told otherwise
    if request.op == "refuse_qa":
        answered = facts.question_object.copy()
        answered[request.facts] = request.new_object
        return replace(facts, question_object=answered)
    objects, alternative = facts.object.copy(), facts.alternative.copy()
    objects[request.facts] = request.new_object
    alternative[request.facts] = facts.object[request.facts] if request.op == "promote_minority" else NONE
    rate = np.where(alternative == NONE, 0.0, facts.alternative_rate)
    changed = replace(facts, object=objects, alternative=alternative, alternative_rate=rate)
    if derivation is None or request.propagate == "isolate":
        return changed
    derived, parents = derivation(changed)
    affected = descendants(facts, request.facts)  # no others: an earlier request may have told them otherwise
    objects[affected] = derived[affected]
    return replace(changed, object=objects, parents=parents)


def descendants(facts: FactTable, requested: Ids) -> Ids:
    """Facts that follow, directly or not, from requested ones, without these."""
    reached = np.zeros(len(facts) + 1, dtype=bool)  # the last place stands for NONE
    reached[requested] = True
    while True:
        after = reached.copy()
        after[:-1] |= reached[facts.parents].any(axis=1)
        if (after == reached).all():
            break
        reached = after
    reached[requested] = False
    return np.flatnonzero(reached[:-1])


def _forgotten(facts: FactTable, request: EditRequest) -> FactTable:
    """Forgotten facts are never shown; with `closure` neither is what follows from them."""
    gone = request.facts
    if request.propagate == "closure":
        gone = np.concatenate([gone, descendants(facts, gone)])
    exposure, questions = facts.exposure.copy(), facts.questions.copy()
    exposure[gone], questions[gone] = 0, 0
    return replace(facts, exposure=exposure, questions=questions)


def _nested_values(facts: FactTable, relations: Relations, nesting: Nesting) -> tuple[Ids, Ids]:
    """g_r(o) as stated [R, O], and the fact that states it, or NONE [R, O]."""
    value, stated_by = nesting.value.copy(), np.full(nesting.value.shape, NONE)
    stating = np.flatnonzero(relations.edge[facts.relation] == "on")
    relation = facts.relation[stating] - 2 * relations.base
    subject = facts.subject[stating] - relations.subjects - relations.first[relation]
    stated_by[relation, subject] = stating
    kept = facts.object[stating] != REFUSAL
    value[relation[kept], subject[kept]] = facts.object[stating[kept]]
    return value, stated_by


def point_masses(objects: Ids, width: int) -> NDArray[np.float64]:
    """Rows [n, width] with all probability on one object; zero for the refusal."""
    rows = np.zeros((len(objects), width))
    known = objects >= 0
    rows[np.flatnonzero(known), objects[known]] = 1.0
    return rows
