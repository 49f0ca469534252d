"""When a method forgets: the first step at which knowledge is down at gold's level and stays there.

At the level means at most gold's + delta; over-forgotten means below gold's - delta. It must hold for `patience`
evaluations in a row, the first one included (3: that one and the next two). What has not happened, or not long enough,
by the last evaluation is right-censored: it took longer than the last step, nobody knows how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unlearn_cli.evaluation import Floats, Ids

DELTA = 0.02  # of knowledge, as a share
PATIENCE = 3  # evaluations


@dataclass(frozen=True)
class Reached:
    """When something happened."""

    step: int | None  # None: not within the evaluations there are
    place: int | None  # which evaluation that is, from 0
    seen: int  # the last step that was looked at

    def __str__(self) -> str:
        return f"> {self.seen}" if self.step is None else str(self.step)


@dataclass(frozen=True)
class Path:
    """What the steps of one run show."""

    forgotten: Reached
    over: Reached
    utility: float | None  # at the step of `forgotten`


def first_lasting(steps: Sequence[int] | Ids, holds: Sequence[bool] | NDArray[np.bool_], patience: int) -> Reached:
    """The first step from which `holds` is true at `patience` evaluations in a row."""
    true = np.asarray(holds, dtype=bool)
    run = 0
    for place, now in enumerate(true):
        run = run + 1 if now else 0
        if run == patience:
            start = place - patience + 1
            return Reached(int(steps[start]), start, int(steps[-1]))
    return Reached(None, None, int(steps[-1]))


def follow(
    steps: Sequence[int] | Ids,
    knowledge: Sequence[float] | Floats,
    gold: float,
    utility: Sequence[float] | Floats | None = None,
    *,
    delta: float = DELTA,
    patience: int = PATIENCE,
) -> Path:
    """Steps to forget and to over-forget of a run that was evaluated at ascending `steps`."""
    values = np.asarray(knowledge, dtype=float)
    slack = 1e-12  # a share such as 0.04 + 0.02 is not exactly 0.06
    down = first_lasting(steps, values <= gold + delta + slack, patience)
    over = first_lasting(steps, values < gold - delta - slack, patience)
    kept = None if utility is None or down.place is None else float(utility[down.place])
    return Path(down, over, kept)


def item_steps(steps: Sequence[int] | Ids, known: NDArray[np.bool_], patience: int = PATIENCE) -> list[Reached]:
    """The same for each item: `known` [evaluations, items] says what was still answered with the old object."""
    return [first_lasting(steps, ~column, patience) for column in np.asarray(known, dtype=bool).T]


def quantile(reached: Sequence[Reached], share: float = 0.5) -> Reached:
    """The step by which `share` of the items are forgotten; censored if fewer are (all are seen to the same step)."""
    seen = min(item.seen for item in reached)
    done = sorted(item.step for item in reached if item.step is not None)
    needed = int(np.ceil(share * len(reached) - 1e-9))
    return Reached(done[max(needed, 1) - 1], None, seen) if len(done) >= needed else Reached(None, None, seen)
