"""What attacks have in common: whom they are evaluated on, what they give away, and the arrays that they leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unlearn_cli.evaluation import Arrays, Ids, Predictions, ProbeSet
from unlearn_cli.observations.base import Scene
from unlearn_cli.worlds.facts import NONE

FORGET, NEVER_KNOWN = "forget", "holdout"


def evaluated_rows(probes: ProbeSet, without: Ids | None = None) -> Ids:
    """Rows of the requested facts, of facts that no model knew, and of unseen ones that must not change.

    Facts in `without` are left out: those that the attacker was told.
    """
    chosen = [
        split.rows for name, split in probes.splits.items() if name in (FORGET, NEVER_KNOWN) or name.endswith("/unseen")
    ]
    rows = np.unique(np.concatenate(chosen)) if chosen else np.empty(0, dtype=np.int64)
    return rows if without is None else rows[~np.isin(probes.fact[rows], without)]


def arrays(rows: Ids, tries: Sequence[Predictions], **more: Any) -> Arrays:
    """Answers to `rows` [n] in each of S tries (seeds, or variants of the prompt), and `more` arrays."""
    return {
        "rows": rows,
        "candidate_logps": np.stack([answers.candidate_logps for answers in tries]),  # [S, n, O]
        "greedy": np.stack([answers.greedy for answers in tries]),  # [S, n]
        **more,
    }


def overlap(scene: Scene, rows: Ids, told: Ids) -> NDArray[np.bool_]:
    """Whether the object of each requested fact of `rows` [n] follows from what an attack was told; False of others.

    Facts are `told` to the whole attack [K], or with each row's own prompt [n, k], where NONE tells nothing.
    """
    facts, out = scene.probes.fact[rows], np.zeros(len(rows), dtype=bool)
    mine = np.flatnonzero(np.isin(facts, scene.request.facts))
    if told.ndim == 1:
        out[mine] = _certain(scene, facts[mine], told)
        return out
    for i in mine:
        out[i] = _certain(scene, facts[[i]], told[i][told[i] != NONE])[0]
    return out


def _certain(scene: Scene, facts: Ids, told: Ids) -> NDArray[np.bool_]:
    """Whether who knows nothing but the old objects of `told` can be sure of those of `facts` [n]; told nothing, not.

    A world that states only these facts says what follows from them.
    """
    world, table = scene.world, scene.world.facts
    objects = table.object.copy()
    objects[scene.request.facts] = world.old_objects(scene.request)

    def sure(stated: Ids) -> NDArray[np.bool_]:
        nothing = np.zeros(len(table), dtype=np.int64)
        exposure = nothing.copy()
        exposure[stated] = 1
        shown = replace(
            table, object=objects, exposure=exposure, questions=nothing, alternative_rate=np.zeros(len(table))
        )
        p = replace(world, facts=shown).posterior(facts).probabilities
        return np.isclose(p[np.arange(len(facts)), np.maximum(objects[facts], 0)], 1.0)

    return sure(told) & ~sure(told[:0])
