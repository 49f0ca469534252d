"""The logit lens: what a model would answer if its decoder read the stream behind an earlier block.

nostalgebraist 2020; Patil et al. 2023 (arXiv 2309.17410); Lucki et al. 2024 (arXiv 2409.18025): p_l = softmax(W_U
LN_f(h_l)). The model is cut behind block l, its own final norm and output layer follow, and it is asked as ever:
objects of several tokens are scored whole, and behind the last block the answers are the model's. The stream before
the first block is left out: at the end of a prompt it holds no subject.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np

from unlearn_cli.component import component
from unlearn_cli.evaluation import Arrays, Predictions, Role
from unlearn_cli.observations.attacked import arrays, evaluated_rows, overlap
from unlearn_cli.observations.base import Observation, Scene, Unobservable
from unlearn_cli.observations.slices import old_objects, success, tune_facts

Decoder = Literal["own", "base"]


@component
class Lens(Observation):
    """Answers read behind every block; the attacker's block is the one that does best on the tune slice."""

    VERSION: ClassVar[int] = 2
    guarded: ClassVar[bool] = False  # who reads states has the weights
    beside: ClassVar[tuple[Role, ...]] = ("base",)

    decoder: Decoder  # whose final norm and output layer: the model's, or the base's, which no edit has touched

    def observe(self, model: Any, scene: Scene) -> Arrays:
        """`attacked.arrays` of the attacker's block, facts of the tune slice left out; `overlap` [n] with that slice.

        `layer` [1], from 1, is the block; `layer_logps` [L, n, O] are of every block.
        """
        from unlearn_cli import predict
        from unlearn_cli.methods.editing.network import blocks, only
        from unlearn_cli.observations.residual import take_decoder

        if self.decoder == "base":
            if "base" not in scene.beside:
                raise Unobservable("there is no base whose decoder could be used")
            take_decoder(model, scene.beside["base"])
        tune, every = tune_facts(scene), blocks(model)
        told = np.isin(scene.probes.fact, tune)
        asked = np.union1d(evaluated_rows(scene.probes), scene.probes.splits["forget"].rows)
        layers = []
        for count in range(1, len(every) + 1):
            with only(model, every[:count]):
                layers.append(predict.predict(model, scene.world, scene.probes.only(asked), scene.batch_size))
        kept = ~told[asked]
        shown = [_kept(answers, kept) for answers in layers]
        truth = old_objects(scene, scene.probes.fact[asked[~kept]])
        best = max(range(len(layers)), key=lambda layer: success(_kept(layers[layer], ~kept), truth))
        more = {
            "overlap": overlap(scene, asked[kept], tune),
            "layer": np.array([best + 1]),
            "layer_logps": np.stack([answers.candidate_logps for answers in shown]),
        }
        return arrays(asked[kept], [shown[best]], **more)


def _kept(answers: Predictions, rows: Any) -> Predictions:
    return Predictions(answers.candidate_logps[rows], answers.greedy[rows], answers.refusal_logps[rows])
