"""What can be said of a fact from everything that a world still trains: the ideal answer after forgetting.

Exact for the generators of this package. Of a forgotten fact there may remain: a correlated partner, an inherited
statement that narrows the object to those with that nested value, the rule that other records show, or all that is
needed to deduce it. What a rule tests is taken as known; what it says at a leaf is what is still shown there. One thing
is left out: where a correlated world does not tell what all objects nest in, the inherited values of other subjects,
whose objects are forgotten, hint at it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unlearn_cli.worlds.correlation import FIRST, SECOND, normalised
from unlearn_cli.worlds.counterfactual import point_masses
from unlearn_cli.worlds.facts import NONE, REFUSAL
from unlearn_cli.worlds.vocabulary import Ids

if TYPE_CHECKING:
    from unlearn_cli.worlds.base import WorldData
    from unlearn_cli.worlds.decision_trees import RuleBook

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Posterior:
    """Distributions over the objects of each fact's relation."""

    probabilities: Floats  # [n, O]; zero beyond the relation's objects; a row of zeros for a refused fact
    deducible: NDArray[np.bool_]  # [n] not trained, yet certain from what is


def posterior(world: WorldData, facts: Ids) -> Posterior:
    """P(object | what `world` trains) for each of `facts`: a trained fact is as it is stated."""
    table = world.facts
    out = np.zeros((len(facts), world.objects))
    known = _trained(world)[facts]
    out[known] = _stated(world, facts[known])
    edge = world.relations.edge[table.relation[facts]]
    evidence = _Evidence(world)
    for name, distribution in (("so", evidence.of_objects), ("sn", evidence.of_inherited), ("on", evidence.of_nested)):
        for relation in np.unique(table.relation[facts[~known & (edge == name)]]):
            chosen = ~known & (table.relation[facts] == relation)
            found = distribution(int(relation), table.subject[facts[chosen]])
            out[chosen, : found.shape[1]] = found
    certain = np.isclose(out.max(axis=1, initial=0.0), 1.0)
    return Posterior(out, ~known & certain)


class _Evidence:
    """What is known of each entity and base relation."""

    def __init__(self, world: WorldData) -> None:
        self.world = world
        self.relations = world.relations
        self._trained = _trained(world)
        self._rows: dict[int, Ids] = {}

    def row(self, relation: int) -> Ids:
        """The trained fact of each entity by `relation`, or NONE; a refused fact tells nothing."""
        if relation not in self._rows:
            table = self.world.facts
            row = np.full(self.relations.entities, NONE)
            facts = np.flatnonzero(self._trained & (table.relation == relation) & (table.object != REFUSAL))
            row[table.subject[facts]] = facts
            self._rows[relation] = row
        return self._rows[relation]

    def of_objects(self, relation: int, subject: Ids) -> Floats:
        """Distribution [n, O_r] of what `subject` has by base relation, if that itself is not told."""
        if self.world.rules is not None:
            return self._by_rule(self.world.rules, relation, subject)
        prior = np.full((len(subject), self.relations.objects[relation]), 1.0)
        if self.world.correlation is not None and relation in (FIRST, SECOND):
            partner = self._likelihood(SECOND if relation == FIRST else FIRST, subject)
            prior = self.world.correlation.given(relation, partner)
        prior = prior / prior.sum(axis=1, keepdims=True)
        return normalised(prior * self._inherited_likelihood(relation, subject), prior)

    def _by_rule(self, rules: RuleBook, relation: int, subject: Ids) -> Floats:
        """What the trained records of the same leaf have; uniform where there is none."""
        leaf, told = rules.leaves(relation), self.row(relation)
        known = np.flatnonzero(told != NONE)
        held = np.zeros((int(leaf.max(initial=0)) + 1, int(self.relations.objects[relation])))
        np.add.at(held, (leaf[known], self.world.facts.object[told[known]]), 1)
        return normalised(held[leaf[subject]], np.full_like(held, 1 / held.shape[1])[leaf[subject]])

    def of_inherited(self, relation: int, subject: Ids) -> Floats:
        """Distribution [n, M] of an inherited value that itself is not told: pushed forward from the object's."""
        base = relation - self.relations.base
        return self._told_or(base, subject) @ self._nested(base)

    def of_nested(self, relation: int, entity: Ids) -> Floats:
        """Distribution [n, M] of an object's nested value that itself is not told."""
        base = relation - 2 * self.relations.base
        return self._nested(base)[entity - self.relations.subjects - self.relations.first[base]]

    def _told_or(self, relation: int, subject: Ids) -> Floats:
        """Point masses where the fact is trained, else what can be said of it: [n, O_r]."""
        told = self.row(relation)[subject]
        out = np.zeros((len(subject), int(self.relations.objects[relation])))
        known = told != NONE
        out[known] = point_masses(self.world.facts.object[told[known]], out.shape[1])
        if not known.all():
            out[~known] = self.of_objects(relation, subject[~known])
        return out

    def _likelihood(self, relation: int, subject: Ids) -> Floats:
        """Likelihood [n, O_r] of each object by what is told of it, without the correlation."""
        told = self.row(relation)[subject]
        likelihood = self._inherited_likelihood(relation, subject)
        known = told != NONE
        likelihood[known] = point_masses(self.world.facts.object[told[known]], likelihood.shape[1])
        return likelihood

    def _inherited_likelihood(self, relation: int, subject: Ids) -> Floats:
        """Likelihood [n, O_r] of each object by the inherited value that is told of the subject, if one is."""
        likelihood = np.ones((len(subject), int(self.relations.objects[relation])))
        if self.world.nesting is None:
            return likelihood
        inherited = self.row(self.relations.base + relation)[subject]
        known = inherited != NONE
        likelihood[known] = self._nested(relation)[:, self.world.facts.object[inherited[known]]].T
        return likelihood

    def _nested(self, relation: int) -> Floats:
        """P(nested value | object) [O_r, M]: as stated, as a witness shows, else by the balance of the map."""
        nesting = self.world.nesting
        assert nesting is not None
        objects, nested = int(self.relations.objects[relation]), nesting.nested
        value = self._shown_by_a_witness(relation)
        stated = self.row(2 * self.relations.base + relation)
        told = stated[self.relations.entity(np.full(objects, relation), np.arange(objects))]
        value = np.where(told != NONE, self.world.facts.object[told], value)
        open_places = objects // nested - np.bincount(value[value != NONE], minlength=nested)
        open_places = np.maximum(open_places, 0)  # an edit may have put more objects on a value than the map does
        balance = open_places / max(1, open_places.sum())
        return np.where((value != NONE)[:, None], point_masses(value, nested), balance)

    def _shown_by_a_witness(self, relation: int) -> Ids:
        """Nested value of each object that some subject is told to have, together with its inherited value."""
        subjects = np.arange(self.relations.subjects)
        fact, inherited = (self.row(r)[subjects] for r in (relation, self.relations.base + relation))
        both = (fact != NONE) & (inherited != NONE)
        value = np.full(int(self.relations.objects[relation]), NONE)
        held, shown = self.world.facts.object[fact[both]], self.world.facts.object[inherited[both]]
        fine = (held >= 0) & (shown >= 0)
        value[held[fine]] = shown[fine]
        return value


def _trained(world: WorldData) -> NDArray[np.bool_]:
    return world.facts.exposure + world.facts.questions > 0


def _stated(world: WorldData, facts: Ids) -> Floats:
    """Distribution over what the sentences of trained facts say [n, O]."""
    table = world.facts
    rate = table.alternative_rate[facts][:, None]
    main, other = (point_masses(column[facts], world.objects) for column in (table.object, table.alternative))
    return (1 - rate) * main + rate * other
