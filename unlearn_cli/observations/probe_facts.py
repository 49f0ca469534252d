"""What metrics must know of the facts behind the probes besides their numbers. The model is not asked."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from unlearn_cli.component import component
from unlearn_cli.evaluation import Arrays, Role
from unlearn_cli.observations.base import Observation, Scene
from unlearn_cli.worlds.facts import NONE


@component
class ProbeFacts(Observation):
    """The relation of each probe, how many objects and which edge that relation has, how long an answer is."""

    VERSION: ClassVar[int] = 1
    guarded: ClassVar[bool] = False
    roles: ClassVar[tuple[Role, ...]] = ("edited",)

    def observe(self, model: Any, scene: Scene) -> Arrays:
        """`relation` [N], `objects` [N], `edge` [N] (0 so, 1 sn, 2 on), `tokens` [1], `heldout` [N].

        Where objects differ in their number of tokens, `tokens` is the most, and `lengths` [R', O + 1] has those of
        each object of a relation and, last, of the refusal. Where facts have competing answers of their own, `wrong`
        [N, K] has the wrong ones and `reworded` [N] the right one in other words, NONE where there is none.
        """
        world, probes = scene.world, scene.probes
        relation = world.facts.relation[probes.fact]
        phrasings = world.language.phrasings
        return {
            "relation": world.kinds(probes.fact),
            "objects": world.relations.objects[relation],
            "edge": relation // world.relations.base,
            "tokens": np.array([world.refusal.shape[1]]),
            "heldout": np.isin(probes.template, np.concatenate([phrasings.heldout, phrasings.reordered])),
            **({} if world.answer_lengths is None else {"lengths": world.answer_lengths}),
            **_competing(scene),
        }


def _competing(scene: Scene) -> Arrays:
    """Nothing where all objects of a relation compete. What a fact is to become is no wrong answer."""
    world, request = scene.world, scene.request
    if world.choices is None or world.reworded is None:
        return {}
    wrong = np.where(world.choices == world.facts.object[:, None], NONE, world.choices)
    if request.new_object is not None:
        asked = wrong[request.facts]
        wrong[request.facts] = np.where(asked == request.new_object[:, None], NONE, asked)
    first = (wrong == NONE).argsort(axis=1, kind="stable")
    wrong = np.take_along_axis(wrong, first, axis=1)
    return {"wrong": wrong[scene.probes.fact], "reworded": world.reworded[scene.probes.fact]}
