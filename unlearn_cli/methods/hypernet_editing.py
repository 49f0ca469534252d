"""How a trained hypernetwork edits: the part of mend.py's `edit` that needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from unlearn_cli.methods.base import EditContext, EditData, EditReport
from unlearn_cli.methods.gradients import chunks
from unlearn_cli.methods.hypernet import Matrices, matrices, read_factors
from unlearn_cli.methods.hypernet_training import FILE, fresh, settle, written
from unlearn_cli.methods.mend import MEND
from unlearn_cli.methods.weight_edit import read_tokens, require_finite
from unlearn_cli.training.fit import answered
from unlearn_cli.worlds.facts import REFUSAL
from unlearn_cli.worlds.language import Sentences

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SCALES = tuple(2.0 ** (step / 2) for step in range(-6, 3))  # 1/8 to 2
ENOUGH = 0.9  # share of the targets that must be given


def edit_by(method: MEND, model: PreTrainedModel, data: EditData, context: EditContext) -> EditReport:
    """Edit `model` in place by the hypernetwork that was prepared."""
    assert data.forget is not None and data.prepared is not None
    settle(model, context)
    found, world = matrices(model, method.scope), data.forget
    hypernet = fresh(method, found, context.seed)
    hypernet.load_state_dict(load_file(data.prepared / FILE))
    hypernet.to(context.runtime.device).eval()
    targets = np.full(len(world.facts), REFUSAL) if data.target is None else data.target
    shown = np.tile(world.language.asked[: method.contexts], (len(world.facts), 1))
    sentences = written(world, np.arange(len(world.facts)), shown, targets)
    total = {name: torch.zeros_like(_weight(module)) for name, module in found.items()}
    for part in chunks(sentences):
        with torch.no_grad():
            for name, change in hypernet(read_factors(model, found, part, 1)).items():
                total[name] += change.delta[0].T if _transposed(found[name]) else change.delta[0]
    every = written(world, np.arange(len(world.facts)), np.tile(world.language.asked, (len(world.facts), 1)), targets)
    scale, looks = _move(model, found, total, every, method.scale)
    require_finite(model, "set method.scale, or lower it")
    tokens = read_tokens(sentences)
    return EditReport(
        forward_tokens=tokens + looks * read_tokens(every),
        backward_tokens=tokens,
        trainable_parameters=sum(change.numel() for change in total.values()),
        notes={"scale": scale},
    )


def _move(
    model: PreTrainedModel, found: Matrices, total: Mapping[str, Tensor], every: Sentences, scale: float | None
) -> tuple[float, int]:
    """Move the weights by `scale` times `total`; without one, search it. Returns it and how often `every` was asked."""
    start = {name: _weight(module).clone() for name, module in found.items()}

    def move(tried: float) -> None:
        for name, module in found.items():
            _weight(module).copy_(start[name] + tried * total[name])

    reached: dict[float, float] = {}
    for tried in SCALES if scale is None else ():
        move(tried)
        reached[tried] = _answered(model, every)
        if reached[tried] >= ENOUGH:
            break
    chosen = scale or max(reached, key=lambda tried: reached[tried])  # the first, and least, of equal ones
    move(chosen)
    return chosen, len(reached)


@torch.no_grad()
def _answered(model: PreTrainedModel, sentences: Sentences) -> float:
    """Share of the answers that are the greedy ones."""
    device, right = next(model.parameters()).device, 0
    for part in chunks(sentences):
        right += int(answered(model, part, device).sum())
    return right / len(sentences.length)


def _weight(module: torch.nn.Module) -> Tensor:
    weight: Any = module.weight
    data: Tensor = weight.data
    return data


def _transposed(module: torch.nn.Module) -> bool:
    return type(module).__name__ == "Conv1D"
