"""Retraining on T: fine-tune a copy on most of the requested facts and ask the others.

Deeb & Roger 2024 (arXiv 2410.08827).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from unlearn_cli.component import Count, Positive, component
from unlearn_cli.evaluation import Arrays, Ids, Predictions
from unlearn_cli.observations.attacked import arrays, evaluated_rows, overlap
from unlearn_cli.observations.base import Observation, Scene, Unobservable
from unlearn_cli.streams import generator


@component
class SplitRetrained(Observation):
    """Each requested fact is asked of the copy that was trained on the other folds."""

    VERSION: ClassVar[int] = 2
    guarded: ClassVar[bool] = False  # who can fine-tune has the weights

    folds: Count  # parts of the request; all but one are T
    lr: Positive
    steps: Count

    def observe(self, model: Any, scene: Scene) -> Arrays:
        """`attacked.arrays` with one try, what is not requested asked of the first copy; `overlap` [n] with T."""
        import copy

        from unlearn_cli import predict
        from unlearn_cli.observations.finetuning import finetune

        rows = evaluated_rows(scene.probes)
        found: Predictions | None = None
        follows = np.zeros(len(rows), dtype=bool)
        for fold, (told, asked) in enumerate(self._folds(scene)):
            attacked = copy.deepcopy(model)
            finetune(attacked, scene, told, self.lr, self.steps, ("split retrained", fold))
            mine = np.isin(scene.probes.fact[rows], asked)
            follows[mine] = overlap(scene, rows[mine], told)
            mine |= found is None
            answers = predict.predict(attacked, scene.world, scene.probes.only(rows[mine]), scene.batch_size)
            found = answers if found is None else _placed(found, answers, mine)
        assert found is not None
        return arrays(rows, [found], overlap=follows)

    def _folds(self, scene: Scene) -> list[tuple[Ids, Ids]]:
        """T and V of every fold."""
        facts = generator(scene.seed, "split retrained").permutation(scene.request.facts)
        if not 1 < self.folds <= len(facts):
            raise Unobservable(
                f"{len(facts)} requested facts cannot be split into {self.folds} parts to train and test"
            )
        parts = np.array_split(facts, self.folds)
        return [(np.setdiff1d(facts, part), part) for part in parts]


def _placed(found: Predictions, answers: Predictions, where: Any) -> Predictions:
    """`found` with the rows `where` replaced."""
    logps, greedy = found.candidate_logps.copy(), found.greedy.copy()
    logps[where], greedy[where] = answers.candidate_logps, answers.greedy
    return replace(found, candidate_logps=logps, greedy=greedy)
