"""A universal soft prompt: embeddings before the question, trained on some requested facts, asked about the others.

Schwinn et al. 2024 (arXiv 2402.09063). There the target is an affirmative stub, and the embeddings stand behind the
question; here the answer follows its prompt at once, so the target is the true object, of facts that are not scored.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from unlearn_cli.component import Count, Positive, component
from unlearn_cli.evaluation import Arrays, Ids
from unlearn_cli.observations.attacked import arrays, evaluated_rows, overlap
from unlearn_cli.observations.base import Observation, Scene, Unobservable
from unlearn_cli.observations.slices import old_objects, requested, tune_facts
from unlearn_cli.streams import generator

BATCH = 32  # prompts in a step


@component
class SoftPrompted(Observation):
    """Answers behind the soft prompt with the lowest loss of `steps` steps of signed gradient."""

    VERSION: ClassVar[int] = 2
    guarded: ClassVar[bool] = False  # who trains embeddings has the weights

    tokens: Count
    lr: Positive  # length of a step in each coordinate, in units of the embeddings' root mean square
    steps: Count

    def observe(self, model: Any, scene: Scene) -> Arrays:
        """`attacked.arrays` with one try, facts of the tune slice left out; `overlap` [n] with that slice.

        `loss` [steps], nats, while training.
        """
        from unlearn_cli import predict
        from unlearn_cli.guards.base import Guarded
        from unlearn_cli.observations.inserted import SoftPrompt

        most = model.config.max_position_embeddings
        if self.tokens + scene.world.max_length > most:
            raise Unobservable(f"a soft prompt of {self.tokens} tokens is too long for a model of {most} positions")
        tune = tune_facts(scene)
        rows = requested(scene.probes)
        embeddings, losses = self._train(model, scene, rows[np.isin(scene.probes.fact[rows], tune)])
        asked = evaluated_rows(scene.probes, without=tune)
        attacked = Guarded(model, SoftPrompt(embeddings))
        answers = predict.predict(attacked, scene.world, scene.probes.only(asked), scene.batch_size)
        return arrays(asked, [answers], overlap=overlap(scene, asked, tune), loss=losses)

    def _train(self, model: Any, scene: Scene, rows: Ids) -> tuple[Any, Any]:
        """The embeddings [k, d], and the loss at each step.

        They start as those of the token between sentences, which disturb a model least: from random ones small models
        forget all they know.
        """
        import torch

        from unlearn_cli.observations.inserted import SoftPrompt

        rng = generator(scene.seed, "attack", "soft_prompt")
        model.requires_grad_(False)
        table = model.get_input_embeddings().weight
        embeddings = table[scene.world.vocabulary.start].expand(self.tokens, -1).clone()
        size = self.lr * float(table.square().mean().sqrt())
        best, losses = embeddings, []
        for _ in range(self.steps):
            embeddings.requires_grad_(True)
            loss = self._loss(model, SoftPrompt(embeddings), scene, rng.permutation(rows)[:BATCH])
            (slope,) = torch.autograd.grad(loss, embeddings)
            embeddings = embeddings.detach()
            losses.append(float(loss.detach()))
            best = embeddings if losses[-1] == min(losses) else best
            embeddings = embeddings - size * slope.sign()
        return best, np.array(losses)

    @staticmethod
    def _loss(model: Any, prompt: Any, scene: Scene, rows: Ids) -> Any:
        import torch
        from torch.nn.functional import cross_entropy

        from unlearn_cli.training.fit import supervised

        facts = scene.probes.fact[rows]
        sentences = scene.world.sentences(facts, scene.probes.template[rows], old_objects(scene, facts))
        device = next(model.parameters()).device
        ids, read = (
            torch.from_numpy(array).to(device) for array in (sentences.through_answer[:, :-1], sentences.positions - 1)
        )
        logits = prompt.answer_logits(model, ids, read, read[:, 0])
        labels = supervised(torch.from_numpy(sentences.answers).to(device), sentences)
        return cross_entropy(logits.flatten(0, 1).float(), labels.flatten())
