"""Steering: move the stream to where the base has it, along a direction learned on some of the requested facts.

`means`: a multiple of the mean of the base's states less this model's is added behind one block. `orthogonal`: the
direction of that mean, over the prompts that the base answers and this model does not, is projected out (Lucki et al.
2024, arXiv 2409.18025, after Arditi et al. 2024, arXiv 2406.11717).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np

from unlearn_cli.component import component
from unlearn_cli.evaluation import Arrays, Ids, Predictions, Role
from unlearn_cli.observations.attacked import arrays, evaluated_rows, overlap
from unlearn_cli.observations.base import Observation, Scene, Unobservable
from unlearn_cli.observations.slices import old_objects, requested, success, tune_facts

Kind = Literal["means", "orthogonal"]
STRENGTHS = (1.0, 2.0, 4.0)  # multiples of the mean difference that are tried


@component
class Steered(Observation):
    """Answers with the stream changed behind the block, and with the strength, that do best on the tune slice."""

    VERSION: ClassVar[int] = 2
    guarded: ClassVar[bool] = False  # who steers has the weights
    beside: ClassVar[tuple[Role, ...]] = ("base",)

    kind: Kind

    def observe(self, model: Any, scene: Scene) -> Arrays:
        """`attacked.arrays` with one try, facts of the tune slice left out; `overlap` [n] with that slice.

        `layer`, from 1, and `strength`, [1]: what was picked.
        """
        if "base" not in scene.beside:
            raise Unobservable("there is no base to steer towards")
        tune = tune_facts(scene)
        rows = requested(scene.probes)
        rows = rows[np.isin(scene.probes.fact[rows], tune)]
        truth, asked = old_objects(scene, scene.probes.fact[rows]), evaluated_rows(scene.probes, without=tune)
        lost = self._lost(model, scene, rows, truth)
        ways = [
            (layer, strength, steered(model, layer, gap * strength, self.kind))
            for layer, gap in enumerate(_gaps(model, scene, rows, lost))
            for strength in (STRENGTHS if self.kind == "means" else STRENGTHS[:1])
        ]
        layer, strength, best = max(ways, key=lambda way: success(_ask(way[2], scene, rows), truth))
        picked = {"layer": np.array([layer + 1]), "strength": np.array([strength])}
        return arrays(asked, [_ask(best, scene, asked)], overlap=overlap(scene, asked, tune), **picked)

    def _lost(self, model: Any, scene: Scene, rows: Ids, truth: Ids) -> Any:
        """Whether each row shows the direction [n]: all of them, or those that the base answers and the model does not;
        all, again, where there are none."""
        if self.kind == "means":
            return np.ones(len(rows), dtype=bool)
        known = _ask(scene.beside["base"], scene, rows).greedy == truth
        lost = known & (_ask(model, scene, rows).greedy != truth)
        return lost if lost.any() else np.ones(len(rows), dtype=bool)


def steered(model: Any, layer: int, vector: Any, kind: Kind) -> Any:
    """The model with its stream changed behind block `layer`, from 0."""
    from unlearn_cli.guards.base import Guarded
    from unlearn_cli.observations.inserted import Projected, Pushed

    return Guarded(model, (Pushed if kind == "means" else Projected)(layer, vector))


def _gaps(model: Any, scene: Scene, rows: Ids, shown: Any) -> Any:
    """Mean of the base's states less the model's at the ends of prompts `rows`, behind every block: [L, d]."""
    import torch

    from unlearn_cli.methods.editing.network import at
    from unlearn_cli.observations.residual import streams

    chosen = rows[shown]
    sentences = scene.world.sentences(scene.probes.fact[chosen], scene.probes.template[chosen])
    device, total = next(model.parameters()).device, torch.zeros(1, dtype=torch.float64)
    for start in range(0, len(chosen), scene.batch_size):
        part = slice(start, start + scene.batch_size)
        ids = torch.from_numpy(sentences.input_ids[part, : int(sentences.answer_start.max())]).to(device)
        ends = torch.from_numpy(sentences.answer_start[part, None] - 1).to(device)
        base, mine = (
            torch.stack([at(states, ends)[:, 0] for states in streams(network, ids)[1:]]).double()
            for network in (scene.beside["base"], model)
        )
        total = total.to(device) + (base - mine).sum(1)
    return (total / len(chosen)).to(next(model.parameters()).dtype)


def _ask(model: Any, scene: Scene, rows: Ids) -> Predictions:
    from unlearn_cli import predict

    return predict.predict(model, scene.world, scene.probes.only(rows), scene.batch_size)
