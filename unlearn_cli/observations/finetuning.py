"""Fine-tune an attacked copy: the shared loop on the answers of some facts, in the trained phrasings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from unlearn_cli.observations.base import Scene
from unlearn_cli.streams import generator
from unlearn_cli.training.fit import answer_loss, answered
from unlearn_cli.training.loop import Row, Runtime, Task, run_task
from unlearn_cli.worlds.vocabulary import Ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BATCH = 50  # facts in a step


def finetune(
    model: PreTrainedModel,
    scene: Scene,
    facts: Ids,
    lr: float,
    steps: int,
    stream: tuple[str | int, ...],
    until: Callable[[torch.nn.Module, int], bool] | None = None,
    beside: Ids | None = None,
) -> int:
    """Train `model` in place with AdamW at a constant rate; returns the steps taken.

    `until` looks at the model after each step (counted from 1) and says whether to stop. Of `beside`, as many facts as
    of `facts` are drawn into each step.
    """
    task = _Finetune(scene, facts, lr, steps, stream, until, facts[:0] if beside is None else beside)
    with torch.random.fork_rng(devices=[]):
        return run_task(task, model, Runtime("attack", scene.numerics))


class _Finetune(Task):
    """Each step states a draw of the facts, each in a draw of the trained templates."""

    max_grad_norm = None

    def __init__(
        self,
        scene: Scene,
        facts: Ids,
        lr: float,
        steps: int,
        stream: tuple[str | int, ...],
        until: Callable[[torch.nn.Module, int], bool] | None,
        beside: Ids,
    ) -> None:
        self.beside = beside
        self.scene, self.facts, self.lr, self.max_steps, self.until = scene, facts, lr, steps, until
        self.rng = generator(scene.seed, "attack", *stream)

    def optimizers(self, model: torch.nn.Module) -> list[torch.optim.Optimizer]:
        return [torch.optim.AdamW(model.parameters(), lr=self.lr, weight_decay=0.0)]

    def rate(self, step: int) -> float:
        return 1.0

    def losses(self, model: torch.nn.Module, step: int) -> Mapping[str, Tensor]:
        asked = self.scene.world.language.asked
        facts = self.rng.permutation(self.facts)[:BATCH]
        if len(self.beside):
            facts = np.concatenate([facts, self.rng.permutation(self.beside)[: len(facts)]])
        templates = asked[self.rng.integers(0, len(asked), len(facts))]
        sentences = self.scene.world.sentences(facts, templates)
        return {"loss": answer_loss(model, sentences, next(model.parameters()).device)}

    def after(self, model: torch.nn.Module, step: int, row: Row) -> bool:
        return self.until is not None and self.until(model, step + 1)


def recalled(model: torch.nn.Module, scene: Scene, facts: Ids) -> float:
    """Share of the facts stated by greedy decoding, each asked in every trained phrasing."""
    asked = scene.world.language.asked
    every, templates = np.repeat(facts, len(asked)), np.tile(asked, len(facts))
    right = []
    with torch.no_grad():
        for start in range(0, len(every), scene.batch_size):
            part = slice(start, start + scene.batch_size)
            sentences = scene.world.sentences(every[part], templates[part])
            right.append(answered(model, sentences, next(model.parameters()).device).cpu().numpy())
    return float(np.concatenate(right).mean())
