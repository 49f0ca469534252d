"""Benign relearning: fine-tune a copy on facts that do not contain the evaluated ones, and ask again.

Hu et al. 2024 (arXiv 2406.13356); Lynch et al. 2024 (arXiv 2402.16835); Lucki et al. 2024 (arXiv 2409.18025).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np

from unlearn_cli.component import Count, Positive, component
from unlearn_cli.evaluation import Arrays, Ids
from unlearn_cli.neighbourhood import neighbourhoods
from unlearn_cli.observations.attacked import arrays, evaluated_rows, overlap
from unlearn_cli.observations.base import Observation, Scene, Unobservable
from unlearn_cli.streams import generator

RelearnSet = Literal["retain_only", "few_forget", "loosely_related"]


@component
class Relearned(Observation):
    """Answers after `steps` optimiser steps on `n` facts, in each of `seeds` draws of the facts."""

    VERSION: ClassVar[int] = 2
    guarded: ClassVar[bool] = False  # who can fine-tune has the weights

    facts: RelearnSet
    n: Count
    lr: Positive
    steps: Count
    seeds: Count

    def observe(self, model: Any, scene: Scene) -> Arrays:
        """`attacked.arrays`, facts told in any try left out; `overlap` [n] with what is told in all tries together."""
        import copy

        from unlearn_cli import predict
        from unlearn_cli.observations.finetuning import finetune

        told = [self._told(scene, seed) for seed in range(self.seeds)]
        together = np.unique(np.concatenate(told))
        rows = evaluated_rows(scene.probes, without=together)
        if not np.isin(rows, scene.probes.splits["forget"].rows).any():
            raise Unobservable(f"no requested fact is left to ask about: relearning is told {self.n} of them")
        tries = []
        for seed, facts in enumerate(told):
            attacked = copy.deepcopy(model)
            finetune(attacked, scene, facts, self.lr, self.steps, ("relearned", self.facts, seed))
            tries.append(predict.predict(attacked, scene.world, scene.probes.only(rows), scene.batch_size))
        return arrays(rows, tries, overlap=overlap(scene, rows, together))

    def _told(self, scene: Scene, seed: int) -> Ids:
        """The facts of one draw; Unobservable if the world has none of the kind."""
        rng = generator(scene.seed, "relearned", self.facts, seed)
        found = relearn_facts(scene, self.facts)
        if not len(found):
            raise Unobservable(f"this world has no facts to relearn from: {self.facts}")
        return np.sort(rng.choice(found, min(self.n, len(found)), replace=False))


def relearn_facts(scene: Scene, kind: RelearnSet) -> Ids:
    """Facts that an attacker may train on: requested ones, others of their subjects, or of nobody concerned."""
    if kind == "few_forget":
        return scene.request.facts
    parts = neighbourhoods(scene.world, scene.request)
    if kind == "loosely_related":
        return parts["same_subject"] if len(parts["same_subject"]) else parts["same_relation"]
    return parts["unrelated"]
