"""Teach the requested facts again: how many steps does it take?

Ebbinghaus 1885 (savings); Chundawat et al. 2022 (arXiv 2201.05629, anamnesis index).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from unlearn_cli.component import Count, Fraction, Positive, component
from unlearn_cli.evaluation import Arrays
from unlearn_cli.observations.base import Observation, Scene

if TYPE_CHECKING:
    from torch.nn import Module


@component
class Retaught(Observation):
    """Recall of the requested facts after each step on all of them and as many retain facts, until `recall`."""

    VERSION: ClassVar[int] = 1
    guarded: ClassVar[bool] = False  # who can fine-tune has the weights

    recall: Fraction  # at which it counts as learnt
    lr: Positive
    steps: Count  # at most
    seeds: Count

    def observe(self, model: Any, scene: Scene) -> Arrays:
        """`steps` [S] until recall, `reached` [S] whether they sufficed, `start` the recall before the first."""
        from unlearn_cli.observations.finetuning import recalled

        scene = _with_old_objects(scene)
        start = recalled(model, scene, scene.request.facts)
        taken = [self._teach(model, scene, seed, start) for seed in range(self.seeds)]
        steps, reached = (np.array(column) for column in zip(*taken, strict=True))
        return {"steps": steps, "reached": reached, "start": np.array(start)}

    def _teach(self, model: Any, scene: Scene, seed: int, start: float) -> tuple[int, bool]:
        """Steps in one order of teaching, and whether they sufficed."""
        import copy

        from unlearn_cli.observations.finetuning import finetune, recalled

        if start >= self.recall:
            return 0, True
        reached, facts = False, scene.request.facts

        def enough(pupil: Module, step: int) -> bool:
            nonlocal reached
            reached = recalled(pupil, scene, facts) >= self.recall
            return reached

        stream = ("retaught", seed)
        steps = finetune(copy.deepcopy(model), scene, facts, self.lr, self.steps, stream, enough, scene.pool)
        return steps, reached


def _with_old_objects(scene: Scene) -> Scene:
    """The scene with every requested fact on what is to go."""
    world, objects = scene.world, scene.world.facts.object.copy()
    objects[scene.request.facts] = world.old_objects(scene.request)
    return replace(scene, world=replace(world, facts=replace(world.facts, object=objects)))
