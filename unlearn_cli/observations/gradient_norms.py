"""How strongly each sentence pulls at the weights: the norm of its own loss gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from unlearn_cli.component import Count, component
from unlearn_cli.evaluation import Arrays, Ids
from unlearn_cli.observations.base import Observation, Scene
from unlearn_cli.observations.token_scores import scored_splits, sentences_of
from unlearn_cli.streams import generator

if TYPE_CHECKING:
    from torch import Tensor

    from unlearn_cli.worlds.language import Sentences


@component
class GradientNorms(Observation):
    """Mean over parameter tensors of the p-norm of the gradient of one sentence's mean token loss."""

    VERSION: ClassVar[int] = 1
    guarded: ClassVar[bool] = False  # who takes gradients has the weights

    scope: Literal["answer", "full"]
    p: Literal["2", "inf"]
    most: Count  # sentences of requested, of reserved and of must-not-change probes each, drawn when there are more

    def observe(self, model: Any, scene: Scene) -> Arrays:
        """`rows` of the probe set [n], ascending; their `relation`; `norm` [n]."""
        rows = self._drawn(scene)
        sentences = sentences_of(scene, rows)
        model.eval()
        norms = np.array([self._norm(model, sentences, row) for row in range(len(rows))])
        return {"rows": rows, "relation": scene.world.kinds(scene.probes.fact[rows]), "norm": norms}

    def _drawn(self, scene: Scene) -> Ids:
        """So many probes of each group."""
        groups: dict[str, list[Ids]] = {}
        for split in scored_splits(scene):
            groups.setdefault("retain" if split.must_not_change else split.name, []).append(split.rows)
        drawn = []
        for name, found in groups.items():
            rows, rng = np.concatenate(found), generator(scene.seed, "gradient_norms", name)
            drawn.append(rng.choice(rows, min(self.most, len(rows)), replace=False))
        return np.unique(np.concatenate(drawn))

    def _norm(self, model: Any, sentences: Sentences, row: int) -> float:
        import torch

        parameters = [p for p in model.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(self._loss(model, sentences, row), parameters, allow_unused=True)
        order = 2 if self.p == "2" else float("inf")
        device = parameters[0].device
        norms = [torch.linalg.vector_norm(g.float(), order).to(device) for g in gradients if g is not None]
        return float(torch.stack(norms).mean())

    def _loss(self, model: Any, sentences: Sentences, row: int) -> Tensor:
        """Mean loss of the tokens that count, of one sentence."""
        import torch
        from torch.nn.functional import cross_entropy

        from unlearn_cli.models.forward import answer_logits

        device = next(model.parameters()).device
        start, end = int(sentences.answer_start[row]), int(sentences.length[row])
        first, last = (start, int(sentences.answer_end[row]) + 1) if self.scope == "answer" else (1, end)
        ids = torch.from_numpy(sentences.input_ids[row : row + 1, :last]).to(device)
        logits = answer_logits(model, ids[:, :-1], torch.arange(first - 1, last - 1, device=device))
        return cross_entropy(logits[0].float(), ids[0, first:])
