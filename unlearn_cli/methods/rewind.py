"""Going back to an earlier model of an edit's own path: which models there are, and what accuracy is wanted of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from unlearn_cli.worlds.base import WorldData


@dataclass(frozen=True)
class Rewind:
    """The model kept is the one whose accuracy on the requested facts is nearest to a wanted one."""

    accuracy: float
    considered: Callable[[int], bool]  # whether the model after a step, from 0, is one of them; the last always is


def guessed(forget: WorldData, retain: WorldData) -> float:
    """How often one is right on the requested facts who knows their relations from the retain facts alone.

    Objects are guessed as often as retain facts of the relation have them; uniformly where there are no such facts.
    """
    counts = np.zeros((len(retain.relations), retain.objects))
    np.add.at(counts, (retain.facts.relation, retain.facts.object), 1)
    relation, total = forget.facts.relation, counts.sum(axis=1)
    known = counts[relation, forget.facts.object] / np.maximum(total[relation], 1)
    return float(np.where(total[relation] > 0, known, 1 / forget.relations.objects[relation]).mean())
