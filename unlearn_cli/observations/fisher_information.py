"""The diagonal Fisher information of requested and retain facts, in this model and in the base, summed by block.

Empirical: mean over sentences of the squared gradient of the sentence's answer loss (`methods/fisher.py`), not the
square of the mean gradient.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from unlearn_cli.component import Count, Fraction, component
from unlearn_cli.evaluation import Arrays, Ids, Role
from unlearn_cli.metrics.tensor_names import place
from unlearn_cli.observations.base import Observation, Scene, Unobservable
from unlearn_cli.observations.slices import old_objects, requested
from unlearn_cli.streams import generator


@component
class FisherInformation(Observation):
    """Sums over the parameters of each block; the first row is what stands outside the blocks."""

    VERSION: ClassVar[int] = 1
    guarded: ClassVar[bool] = False  # gradients take the weights
    beside: ClassVar[tuple[Role, ...]] = ("base",)

    n: Count  # sentences about requested facts, and as many about retain facts
    top: Fraction  # share of weights that count as the most important, or the most changed

    def observe(self, model: Any, scene: Scene) -> Arrays:
        """`forget`, `retain` [L + 1], sums of the diagonal; `move_forget`, `move_retain`, half the sum of the base's
        diagonal times the squared change of the weights; `cosine` [1] of the two diagonals of requested facts;
        `overlap` [2], Jaccard index of the most important for requested facts with the most changed weights, and what
        chance gives; NaN where nothing changed or a diagonal is 0."""
        if "base" not in scene.beside:
            raise Unobservable("there is no base to compare with")
        base = scene.beside["base"]
        rows = requested(scene.probes)
        own, before = self._diagonals(model, scene, rows), self._diagonals(base, scene, rows)
        weights = dict(model.named_parameters())
        change = {name: weights[name].detach() - start.detach() for name, start in base.named_parameters()}
        moved = {kind: {n: 0.5 * f * change[n] ** 2 for n, f in found.items()} for kind, found in before.items()}
        size = model.config.num_hidden_layers
        return {
            **{kind: by_block(found, size) for kind, found in own.items()},
            **{f"move_{kind}": by_block(found, size) for kind, found in moved.items()},
            "cosine": np.array([cosine(own["forget"], before["forget"])]),
            "overlap": np.array(overlap(before["forget"], change, self.top)),
        }

    def _diagonals(self, model: Any, scene: Scene, rows: Ids) -> dict[str, Any]:
        from unlearn_cli.methods.fisher import diagonal

        world, probes = scene.world, scene.probes
        found = {}
        for kind, some in (("forget", rows), ("retain", _retained(scene))):
            if not len(some):
                raise Unobservable("no unseen fact that must not change is asked")
            drawn = np.sort(generator(scene.seed, "fisher", kind).permutation(some)[: self.n])
            facts = probes.fact[drawn]
            found[kind] = diagonal(model, world.sentences(facts, probes.template[drawn], old_objects(scene, facts)))
        return found


def _retained(scene: Scene) -> Ids:
    parts = [split.rows for name, split in scene.probes.splits.items() if name.endswith("/unseen")]
    return np.unique(np.concatenate(parts)) if parts else np.empty(0, dtype=np.int64)


def by_block(found: Any, blocks: int) -> Any:
    """Sums over tensors outside the blocks, then in each block: [L + 1]."""
    sums = np.zeros(blocks + 1)
    for name, tensor in found.items():
        layer = place(name).layer
        sums[0 if layer is None else layer + 1] += float(tensor.double().sum())
    return sums


def cosine(a: Any, b: Any) -> float:
    """Cosine of two sets of tensors as one vector each; NaN where one is 0."""
    dot = sum(float((a[name].double() * b[name].double()).sum()) for name in a)
    size = float(np.sqrt(_squares(a) * _squares(b)))
    return dot / size if size else float("nan")


def overlap(important: Any, change: Any, top: float) -> tuple[float, float]:
    """Jaccard index of the `top` share of weights by importance and by change; its value for sets drawn at random."""
    import torch

    device = next(iter(important.values())).device
    one = torch.cat([important[name].flatten().to(device) for name in important])
    other = torch.cat([change[name].flatten().abs().to(device) for name in important])
    k = max(1, int(top * len(one)))
    if not bool(other.any()):
        return float("nan"), k / (2 * len(one) - k)
    both = np.intersect1d(one.topk(k).indices.cpu().numpy(), other.topk(k).indices.cpu().numpy())
    return len(both) / (2 * k - len(both)), k / (2 * len(one) - k)


def _squares(a: Any) -> float:
    return sum(float(tensor.double().square().sum()) for tensor in a.values())
