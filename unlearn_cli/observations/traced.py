"""Causal traces: the subject's embeddings are drowned in noise, and one state at a time is put back.

Meng et al. 2022 (ROME, arXiv 2202.05262): noise of 3 times the standard deviation of the subject tokens' embeddings,
10 draws. Departures: states are restored at two places, the subject's last token and the prompt's, not at every token;
the residual stream only, since a window of 10 layers of MLP or attention is more than a small model has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from unlearn_cli.component import Count, Positive, component
from unlearn_cli.evaluation import Arrays, Ids, Role
from unlearn_cli.observations.base import Observation, Scene, Unobservable
from unlearn_cli.observations.slices import old_objects, requested
from unlearn_cli.streams import generator

if TYPE_CHECKING:
    from torch import Tensor

GROUPS = ("forget", "retain")
ROWS = 64  # prompts of a pass, each with all draws of the noise


@component
class Traced(Observation):
    """Probability of the old object, of prompts that the model answers right, clean, corrupted, and restored."""

    VERSION: ClassVar[int] = 1
    guarded: ClassVar[bool] = False  # who patches states has the weights
    roles: ClassVar[tuple[Role, ...]] = ("base", "edited")

    noise: Positive  # in standard deviations of the subject tokens' embeddings
    samples: Count  # draws of the noise
    prompts: Count  # of the requested facts, and of unseen ones that must not change

    def observe(self, model: Any, scene: Scene) -> Arrays:
        """For each group `<group>_rows` [n], `<group>_high`, `<group>_low` [n] and `<group>_restored` [2, L + 1, n]:
        first the subject's last token, then the prompt's; after the embedding, then every block."""
        found: dict[str, Any] = {}
        for group, rows in zip(GROUPS, (requested(scene.probes), _unseen(scene)), strict=True):
            drawn = np.sort(generator(scene.seed, "trace", group).permutation(rows)[: self.prompts])
            found |= {f"{group}_{name}": array for name, array in self._traced(model, scene, group, drawn).items()}
        return found

    def _traced(self, model: Any, scene: Scene, group: str, rows: Ids) -> dict[str, Any]:
        from unlearn_cli import predict

        answers = predict.predict(model, scene.world, scene.probes.only(rows), scene.batch_size)
        rows = rows[answers.greedy == old_objects(scene, scene.probes.fact[rows])]
        layers = model.config.num_hidden_layers + 1
        pieces = [{"high": np.empty(0), "low": np.empty(0), "restored": np.empty((2, layers, 0))}]
        for start in range(0, len(rows), ROWS):
            part = rows[start : start + ROWS]
            pieces.append(self._pass(model, scene, part, (group, start)))
        return {"rows": rows, **{name: np.concatenate([p[name] for p in pieces], axis=-1) for name in pieces[0]}}

    def _pass(self, model: Any, scene: Scene, rows: Ids, stream: tuple[str, int]) -> dict[str, Any]:
        import torch

        from unlearn_cli.methods.editing.network import at
        from unlearn_cli.observations.residual import streams

        world, facts = scene.world, scene.probes.fact[rows]
        sentences = world.sentences(facts, scene.probes.template[rows], old_objects(scene, facts))
        if (sentences.subject_end < 0).any():
            raise Unobservable("a prompt names no subject")
        device = next(model.parameters()).device
        ids, read, answers, inside, last, end = (
            torch.from_numpy(np.repeat(array, self.samples, axis=0)).to(device)
            for array in (
                sentences.through_answer[:, :-1],
                sentences.positions - 1,
                sentences.answers,
                sentences.answer_places,
                sentences.subject_end[:, None],
                sentences.answer_start[:, None] - 1,
            )
        )
        people = world.facts.subject[facts] < world.language.subjects
        kind = np.where(people, world.vocabulary["subject"].tokens_per_word, sentences.answer_length)
        width = torch.from_numpy(np.repeat(kind, self.samples)[:, None]).to(device)
        every = torch.arange(ids.shape[1], device=device)
        subject = (every > last - width) & (every <= last)
        noise = self._noise(model, scene, ids, subject, stream)
        clean = streams(model, ids)

        def sure(added: Tensor, changes: Any) -> Any:
            found = answer_probability(model, ids, added, read, answers, changes, inside)
            return found.view(len(rows), self.samples).mean(1).cpu().numpy()

        restored = []
        for place in (last, end):
            kept = noise * (every != place)[..., None]  # the embedding alone restored
            states = [at(layer, place) for layer in clean[1:]]
            restored.append([sure(kept, {}), *[sure(noise, {n: _put(place, state)}) for n, state in enumerate(states)]])
        return {"high": sure(noise * 0, {}), "low": sure(noise, {}), "restored": np.array(restored)}

    def _noise(self, model: Any, scene: Scene, ids: Tensor, subject: Tensor, stream: tuple[str, int]) -> Tensor:
        """What is added to the embeddings [B, L, d]."""
        import torch

        embed = model.get_input_embeddings()
        with torch.no_grad():
            scale = self.noise * embed(ids[subject]).std()
        rng = generator(scene.seed, "trace", "noise", *stream)
        drawn = rng.standard_normal((*ids.shape, model.config.hidden_size), dtype=np.float32)
        return torch.from_numpy(drawn).to(ids.device) * scale * subject[..., None]


def answer_probability(
    model: Any, ids: Tensor, noise: Tensor, read: Tensor, answers: Tensor, changes: Any, inside: Tensor | None = None
) -> Tensor:
    """P(answers [B, T]) at `read` [B, T], with noise [B, L, d] on the embeddings and some outputs changed: [B].

    `inside` [B, T] says which tokens count; None: all.
    """
    import torch

    from unlearn_cli.models.forward import logits_at
    from unlearn_cli.observations.residual import changed

    with torch.no_grad(), changed(model, changes):
        embedded = model.get_input_embeddings()(ids) + noise
        logps = logits_at(model, read, inputs_embeds=embedded).float().log_softmax(-1)
    own = logps.gather(-1, answers[..., None])[..., 0]
    return (own if inside is None else own.masked_fill(~inside, 0.0)).sum(1).exp()


def _put(place: Tensor, states: Tensor) -> Any:
    return lambda out: out.scatter(1, place[..., None].expand(-1, -1, out.shape[-1]), states)


def _unseen(scene: Scene) -> Ids:
    parts = [split.rows for name, split in scene.probes.splits.items() if name.endswith("/unseen")]
    return np.unique(np.concatenate(parts)) if parts else np.empty(0, dtype=np.int64)
