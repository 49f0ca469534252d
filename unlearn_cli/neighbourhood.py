"""Which facts a request touches, and which it must leave alone, sorted by how near they are.

Every fact is in one part; where several fit, the first of PARTS does. Behemoth's own names for them are in
docs/worlds.md.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from unlearn_cli.streams import generator
from unlearn_cli.worlds.base import WorldData
from unlearn_cli.worlds.correlation import partners
from unlearn_cli.worlds.counterfactual import descendants
from unlearn_cli.worlds.facts import NONE, FactTable
from unlearn_cli.worlds.request import EditRequest
from unlearn_cli.worlds.vocabulary import Ids

Flags = NDArray[np.bool_]

PARTS = {  # name -> why there may be no such fact
    "edited": "nothing is requested",
    "edited_heldout": "the method is shown every requested fact",
    "holdout": "this world reserves no subject",
    "dep_change": "no fact that follows from a requested one changes with it",
    "dep_keep": "every fact that follows from a requested one changes with it, or there is none",
    "bridge": "no requested fact leads on to another",
    "correlated_partner": "the requested relations correlate with none",
    "same_subject": "the requested subjects have no other fact",
    "same_value_old": "no other fact of the relation holds a requested object",
    "same_value_new": "no other fact of the relation holds a new object",
    "same_relation": "the relation has no other fact",
    "unrelated": "every fact is near the request",
}
MUST_NOT_CHANGE = (
    "dep_keep",
    "bridge",
    "correlated_partner",
    "same_subject",
    "same_value_old",
    "same_value_new",
    "same_relation",
    "unrelated",
)


def neighbourhoods(world: WorldData, request: EditRequest) -> dict[str, Ids]:
    """Sort all facts: part -> fact ids. The parts are disjoint and cover the world."""
    left = np.ones(len(world.facts), dtype=bool)
    found = {}
    for name, test in _tests(world, request):
        found[name] = np.flatnonzero(left & test)
        left &= ~test
    return found


def retain_pool(world: WorldData, request: EditRequest, share: float, requested_subjects: bool) -> Ids:
    """Draw the retain pool: `share` of the trained facts that must not change, sorted ids.

    Facts of the requested subjects stay out unless `requested_subjects`.
    """
    parts = neighbourhoods(world, request)
    keep = np.sort(np.concatenate([parts[name] for name in MUST_NOT_CHANGE]))
    others = ~np.isin(world.facts.subject[keep], world.facts.subject[request.facts])
    pool = keep if requested_subjects else keep[others]
    size = min(len(pool), round(share * len(keep)))
    return np.sort(generator(world.seed, "retain").choice(pool, size, replace=False))


def _tests(world: WorldData, request: EditRequest) -> Iterator[tuple[str, Flags]]:
    """Each part's own condition, in order of precedence."""
    facts, requested = world.facts, request.facts
    kinds, new = world.kinds(np.arange(len(facts))), request.new_object
    relation = kinds[requested]
    value = kinds * world.objects + facts.object  # an object of a relation
    inside = np.isin(kinds, relation)
    changes, follows = _dependents(world, request)
    new_value = np.empty(0, dtype=np.int64) if new is None else (relation * world.objects + new)[new >= 0]
    yield "edited", _flags(facts, requested[request.visible])
    yield "edited_heldout", _flags(facts, requested[~request.visible])
    yield "holdout", facts.holdout
    yield "dep_change", changes
    yield "dep_keep", follows | _flags(facts, facts.parents[requested])
    yield "bridge", _bridges(world, request)
    yield "correlated_partner", _flags(facts, partners(facts, world.correlation)[requested])
    yield "same_subject", np.isin(facts.subject, facts.subject[requested])
    yield "same_value_old", inside & np.isin(value, value[requested])
    yield "same_value_new", inside & np.isin(value, new_value)
    yield "same_relation", inside
    yield "unrelated", np.ones(len(facts), dtype=bool)


def _dependents(world: WorldData, request: EditRequest) -> tuple[Flags, Flags]:
    """Facts that follow from requested ones: those that change when dependents are derived anew, and all."""
    facts = world.facts
    follows = _flags(facts, descendants(facts, request.facts))
    if request.new_object is None:
        return follows, follows  # what follows from what is forgotten is forgotten
    return follows & (world.closure(request).facts.object != facts.object), follows


def _bridges(world: WorldData, request: EditRequest) -> Flags:
    """The object -> nested facts over which a requested subject -> object fact leads on, before and after."""
    facts, relations = world.facts, world.relations
    none = np.zeros(len(facts), dtype=bool)
    if world.nesting is None:
        return none
    direct = relations.edge[facts.relation[request.facts]] == "so"
    relation = facts.relation[request.facts][direct]
    values = [facts.object[request.facts][direct]]
    if request.new_object is not None:
        values.append(request.new_object[direct])
    for objects in values:
        kept = objects >= 0
        entity = relations.entity(relation[kept], objects[kept])
        nested = 2 * relations.base + relation[kept]
        key = np.unique(nested * relations.entities + entity)
        none |= np.isin(facts.relation * relations.entities + facts.subject, key)
    return none


def _flags(facts: FactTable, rows: Ids) -> Flags:
    """Mark rows of a table; NONE marks nothing."""
    flags = np.zeros(len(facts), dtype=bool)
    flags[rows[rows != NONE]] = True
    return flags
