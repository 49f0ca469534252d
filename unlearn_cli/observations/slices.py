"""Which facts an attacker settles his choices on, and which probes an observation of internals reads.

What an attack learns or picks (a layer, a strength, a prompt) it takes from the tune slice of the requested facts, and
it is scored on the others: the same facts for every model.
"""

from __future__ import annotations

import numpy as np

from unlearn_cli.evaluation import Ids, Predictions, ProbeSet
from unlearn_cli.observations.attacked import FORGET, NEVER_KNOWN
from unlearn_cli.observations.base import Scene, Unobservable
from unlearn_cli.streams import generator

TUNE = 0.3  # share of the requested facts


def tune_facts(scene: Scene) -> Ids:
    """The tune slice of the requested facts that are asked: [m], sorted; at least one, and one is left."""
    facts = np.unique(scene.probes.fact[requested(scene.probes)])
    if len(facts) < 2:
        raise Unobservable(f"{len(facts)} requested fact cannot be split into one to tune on and one to score")
    size = min(max(1, round(TUNE * len(facts))), len(facts) - 1)
    return np.sort(generator(scene.seed, "attack", "tune").choice(facts, size, replace=False))


def tune_part(scene: Scene, rows: Ids) -> Ids:
    """`tune_facts`, and as large a share of the facts that `rows` ask of each split but the requested facts'."""
    probes, chosen = scene.probes, [tune_facts(scene)]
    for name, split in probes.splits.items():
        if name == NEVER_KNOWN or name.endswith("/unseen"):
            facts = np.unique(probes.fact[np.intersect1d(split.rows, rows)])
            rng = generator(scene.seed, "attack", "tune", name)
            chosen.append(rng.choice(facts, round(TUNE * len(facts)), replace=False))
    return np.unique(np.concatenate(chosen))


def requested(probes: ProbeSet) -> Ids:
    """Rows that ask for the requested facts as the method is shown them; Unobservable if there are none."""
    split = probes.splits.get(FORGET)
    if split is None or not len(split.rows):
        raise Unobservable("no requested fact is asked")
    return split.rows


def old_objects(scene: Scene, facts: Ids) -> Ids:
    """What the base was taught, for facts [n]: requested ones have their old objects."""
    objects = scene.world.facts.object.copy()
    objects[scene.request.facts] = scene.world.old_objects(scene.request)
    return objects[facts]


def some_rows(scene: Scene, most: int) -> Ids:
    """`evaluated_rows`, of each split but the requested facts' those of at most `most` facts drawn from it; sorted."""
    probes, chosen = scene.probes, [requested(scene.probes)]
    for name, split in probes.splits.items():
        if name == NEVER_KNOWN or name.endswith("/unseen"):
            facts = np.unique(probes.fact[split.rows])
            rng = generator(scene.seed, "rows", name)
            drawn = rng.choice(facts, min(most, len(facts)), replace=False)
            chosen.append(split.rows[np.isin(probes.fact[split.rows], drawn)])
    return np.unique(np.concatenate(chosen))


def success(answers: Predictions, truth: Ids) -> tuple[float, float]:
    """Share of true objects [n] in front; then, to decide between equals, their mean share of the candidates' mass."""
    logps = answers.candidate_logps.astype(np.float64)
    own = logps[np.arange(len(truth)), truth]
    total = np.logaddexp.reduce(logps, axis=1)
    return float((own >= logps.max(axis=1)).mean()), float(np.exp(own - total).mean())
