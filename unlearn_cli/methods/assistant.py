"""Train an assistant on the reversed objective: know the requested facts, be flat on everything else (uld.py)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from unlearn_cli.errors import UnlearnError
from unlearn_cli.methods.alternatives import other_objects
from unlearn_cli.methods.base import EditContext, EditData, EditReport
from unlearn_cli.methods.scope import merge_adapter, prepare
from unlearn_cli.streams import generator
from unlearn_cli.training.fit import answer_loss
from unlearn_cli.training.loop import Task, run_task
from unlearn_cli.worlds.language import Sentences
from unlearn_cli.worlds.vocabulary import PADDING, Ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from unlearn_cli.methods.uld import ULD

WARMUP = 0.1  # share of the steps over which the learning rate rises, as published


def train(assistant: PreTrainedModel, method: ULD, data: EditData, context: EditContext) -> EditReport:
    """Train in place; UnlearnError if it ends with weights that are no numbers."""
    task = _Reversed(method, data, context)
    trained = prepare(assistant, "all", method.adapter, context.seed)
    trainable = sum(p.numel() for p in trained.parameters() if p.requires_grad)
    steps = run_task(task, trained, context.runtime)
    merge_adapter(trained)
    if not all(bool(p.isfinite().all()) for p in assistant.parameters()):
        raise UnlearnError(f"edit: the assistant's weights are not finite after step {steps}; lower method.lr")
    return EditReport(
        steps=steps, forward_tokens=task.tokens, backward_tokens=task.tokens, trainable_parameters=trainable
    )


class _Reversed(Task):
    """NLL on the requested facts, distance from flat predictions on the rest."""

    max_grad_norm = None

    def __init__(self, method: ULD, data: EditData, context: EditContext) -> None:
        assert data.forget is not None and data.retain is not None
        self.method, self.context = method, context
        self.forget, self.retain = data.forget, data.retain
        self.max_steps = method.steps
        self.device = context.runtime.device
        self.tokens = 0

    def optimizers(self, model: torch.nn.Module) -> list[torch.optim.Optimizer]:
        trained = [p for p in model.parameters() if p.requires_grad]
        return [torch.optim.AdamW(trained, lr=self.method.lr, weight_decay=0.0)]

    def rate(self, step: int) -> float:
        return min(1.0, (step + 1) / (WARMUP * self.max_steps))

    def losses(self, model: torch.nn.Module, step: int) -> Mapping[str, Tensor]:
        method, rng = self.method, generator(self.context.seed, "edit", "forget", step)
        facts = np.arange(len(self.forget.facts))
        templates = rng.choice(self.forget.language.asked, len(facts))
        asked = self.forget.sentences(facts, templates)
        learnt = answer_loss(model, asked, self.device)
        self.tokens += int(asked.answer_end.sum())
        distances = [self._flatness(model, self._retained(step))]
        if method.perturb:
            objects = other_objects(rng, self.forget, facts)
            wrong = self.forget.sentences(facts, templates, objects)
            distances.append(self._flatness(model, wrong, _first_difference(wrong.input_ids, asked.input_ids)))
        flat = torch.cat(distances).mean()
        return {"forget": learnt, "retain": flat, "loss": learnt + method.uniform_weight * flat}

    def _retained(self, step: int) -> Sentences:
        """Retain facts of a step."""
        rng, n = generator(self.context.seed, "edit", "retain", step), len(self.retain.facts)
        facts = rng.choice(n, min(n, self.method.retain_batch), replace=False)
        templates = rng.choice(self.retain.language.asked, len(facts))
        return self.retain.sentences(facts, templates)

    def _flatness(self, model: torch.nn.Module, sentences: Sentences, since: Ids | None = None) -> Tensor:
        """KL(uniform || model) [N] at all positions that predict a token, from `since` [n] on."""
        ids = torch.from_numpy(sentences.input_ids).to(self.device)
        self.tokens += int((sentences.length - 1).sum())
        place = np.arange(ids.shape[1] - 1)[None]
        read = (place < sentences.length[:, None] - 1) & (place >= (0 if since is None else since[:, None]))
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits
        return flatness(logits[torch.from_numpy(read).to(self.device)])


def _first_difference(one: Ids, other: Ids) -> Ids:
    """The first place in which rows [n, L] and [n, M], padded on the right, differ [n]."""
    width = max(one.shape[1], other.shape[1])
    padded = (np.pad(rows, ((0, 0), (0, width - rows.shape[1])), constant_values=PADDING) for rows in (one, other))
    return np.not_equal(*padded).argmax(1)


def flatness(logits: Tensor) -> Tensor:
    """KL(uniform || p) in nats [...] of logits [..., V]."""
    return -math.log(logits.shape[-1]) - logits.float().log_softmax(-1).mean(-1)
