"""Ask again in other words: held-out templates, orders never trained, or the same prompt behind unrelated sentences.

Patil et al. 2024 (arXiv 2309.17410, input rephrasing); Jin et al. 2024 (RWKU, arXiv 2406.10890); Meng et al. 2022
(ROME, arXiv 2202.05262, prefixes).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np

from unlearn_cli.component import Count, component
from unlearn_cli.evaluation import Arrays
from unlearn_cli.observations.attacked import arrays
from unlearn_cli.observations.base import Observation, Scene, Unobservable
from unlearn_cli.observations.prompting import ask, drawn_rows, state, told_of_others
from unlearn_cli.streams import generator
from unlearn_cli.worlds.facts import NONE

Rephrasing = Literal["heldout", "reordered", "prefix"]


@component
class Rephrased(Observation):
    """Answers in each of at most `variants` rephrasings of every prompt."""

    VERSION: ClassVar[int] = 1

    kind: Rephrasing
    variants: Count
    sentences: Count  # prefix: sentences before the prompt
    rows: Count  # most prompts of a split

    def observe(self, model: Any, scene: Scene) -> Arrays:
        """`attacked.arrays`, one try for each variant."""
        rows = drawn_rows(scene, self.rows)
        if self.kind == "prefix":
            return arrays(rows, [self._behind(model, scene, rows, variant) for variant in range(self.variants)])
        found = getattr(scene.world.language.phrasings, self.kind)[: self.variants]
        if not len(found):
            raise Unobservable(f"this world's grammar has no {self.kind} templates")
        return arrays(rows, [ask(model, scene, rows, (), np.full(len(rows), template)) for template in found])

    def _behind(self, model: Any, scene: Scene, rows: Any, variant: int) -> Any:
        """Answers behind sentences about other subjects, drawn from the retain pool."""
        rng = generator(scene.seed, "prefix", variant)
        facts = told_of_others(scene, rows, self.sentences, rng, same_relation=False)
        if (facts == NONE).any():
            raise Unobservable(f"the retain pool has fewer than {self.sentences} facts of other subjects")
        return ask(model, scene, rows, [state(scene, column, rng) for column in facts.T])
