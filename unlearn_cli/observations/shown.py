"""Ask behind examples: other facts of the same relation, or other facts of the same subject.

Lynch et al. 2024 (arXiv 2402.16835); Doshi & Stickland 2024 (arXiv 2411.12103).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np

from unlearn_cli.component import Count, component
from unlearn_cli.evaluation import Arrays, Ids
from unlearn_cli.observations.attacked import arrays, overlap
from unlearn_cli.observations.base import Observation, Scene, Unobservable
from unlearn_cli.observations.prompting import ask, drawn_rows, state, told_of_others, told_of_the_subject
from unlearn_cli.streams import generator
from unlearn_cli.worlds.facts import NONE

ShownPool = Literal["same_relation", "same_subject"]


@component
class Shown(Observation):
    """Answers behind `shots` facts that the world still holds."""

    VERSION: ClassVar[int] = 2

    pool: ShownPool
    shots: Count
    rows: Count  # most prompts of a split

    def observe(self, model: Any, scene: Scene) -> Arrays:
        """`attacked.arrays` with one try, rows with too few examples left out; `overlap` [n] with a row's examples."""
        rows, rng = drawn_rows(scene, self.rows), generator(scene.seed, "shown", self.pool, self.shots)
        facts = self._facts(scene, rows, rng)
        enough = (facts != NONE).all(1)
        if not np.isin(rows[enough], scene.probes.splits["forget"].rows).any():
            most = int((facts != NONE).sum(1).max(initial=0))
            raise Unobservable(f"there are {most} such examples at most, {self.shots} are asked for")
        rows, facts = rows[enough], facts[enough]
        told = [state(scene, column, rng) for column in facts.T]
        return arrays(rows, [ask(model, scene, rows, told)], overlap=overlap(scene, rows, facts))

    def _facts(self, scene: Scene, rows: Ids, rng: np.random.Generator) -> Ids:
        if self.pool == "same_subject":
            return told_of_the_subject(scene, rows, self.shots, rng, leak=False)
        return told_of_others(scene, rows, self.shots, rng, same_relation=True)
