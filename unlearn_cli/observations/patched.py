"""Activation patching: states of one model put into another, block by block, and how sure that one then is of the
answer.

Lee et al. 2026 (Unlearning Depth Score, arXiv 2605.24614). On the rows that predict the answer the base's output of
one block is replaced by what this model has there on the same tokens, and the base goes on. The mirror, this
project's: the base's states put into this model.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from unlearn_cli.component import component
from unlearn_cli.evaluation import Arrays, Role
from unlearn_cli.observations.base import Observation, Scene, Unobservable
from unlearn_cli.observations.slices import old_objects, requested


@component
class Patched(Observation):
    """Mean log-probability of the old object's tokens, teacher-forced, of each probe of the requested facts."""

    VERSION: ClassVar[int] = 1
    guarded: ClassVar[bool] = False  # who patches states has the weights
    roles: ClassVar[tuple[Role, ...]] = ("edited", "gold")
    beside: ClassVar[tuple[Role, ...]] = ("base",)

    def observe(self, model: Any, scene: Scene) -> Arrays:
        """`rows` [n]; `base`, `own` [n] unpatched; behind every block `patched`, this model's states in the base, and
        `restored`, the base's in this model: [L, n]."""
        import torch

        if "base" not in scene.beside:
            raise Unobservable("there is no base to patch")
        base, rows = scene.beside["base"], requested(scene.probes)
        _comparable(base, model)
        facts = scene.probes.fact[rows]
        sentences = scene.world.sentences(facts, scene.probes.template[rows], old_objects(scene, facts))
        device, pieces = next(model.parameters()).device, []
        for start in range(0, len(rows), scene.batch_size):
            part = slice(start, start + scene.batch_size)
            ids = torch.from_numpy(sentences.through_answer[part, :-1]).to(device)
            read = torch.from_numpy(sentences.positions[part] - 1).to(device)
            answers = torch.from_numpy(sentences.answers[part]).to(device)
            inside = None if sentences.answer_mask is None else torch.from_numpy(sentences.answer_mask[part]).to(device)
            pieces.append(exchanged(base, model, ids, read, answers, inside))
        found = {name: np.concatenate([piece[name] for piece in pieces], axis=-1) for name in pieces[0]}
        return {"rows": rows, **found}


def exchanged(base: Any, model: Any, ids: Any, read: Any, answers: Any, inside: Any = None) -> dict[str, Any]:
    """Log-probabilities of `answers` [B, T], read at `read` [B, T] of rows [B, L], while states are exchanged there.

    `inside` [B, T] says which tokens count; None: all.
    """
    import torch

    from unlearn_cli.methods.editing.network import at
    from unlearn_cli.observations.residual import logits_at, streams

    def sure(network: Any, changes: Any) -> Any:
        logps = logits_at(network, ids, read, changes).float().log_softmax(-1)
        own = logps.gather(-1, answers[..., None])[..., 0]
        return (own.mean(1) if inside is None else (own * inside).sum(1) / inside.sum(1)).cpu().numpy()

    def put(states: Any) -> Any:
        width = states.shape[-1]
        return lambda out: out.scatter(1, read[..., None].expand(-1, -1, width), states)

    with torch.no_grad():
        theirs = [at(states, read) for states in streams(base, ids)[1:]]
        mine = [at(states, read) for states in streams(model, ids)[1:]]
        return {
            "base": sure(base, {}),
            "own": sure(model, {}),
            "patched": np.stack([sure(base, {layer: put(states)}) for layer, states in enumerate(mine)]),
            "restored": np.stack([sure(model, {layer: put(states)}) for layer, states in enumerate(theirs)]),
        }


def _comparable(base: Any, model: Any) -> None:
    """Unobservable unless the two have the same blocks."""
    for name in ("num_hidden_layers", "hidden_size", "vocab_size"):
        if getattr(base.config, name) != getattr(model.config, name):
            raise Unobservable(f"the base and this model differ in {name}")
