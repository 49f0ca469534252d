"""The gradient of the answers' NLL over many sentences at once, and how probable the answers are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlearn_cli.methods.loss import AnswerBatch
from unlearn_cli.training.fit import answer_mask, read_answers
from unlearn_cli.worlds.language import Sentences

CHUNK = 512  # sentences in one pass


def chunks(sentences: Sentences, size: int = CHUNK) -> Iterator[Sentences]:
    """The sentences in order, at most `size` at a time."""
    arrays: dict[str, Any] = {key: value for key, value in vars(sentences).items() if isinstance(value, np.ndarray)}
    for start in range(0, len(sentences.length), size):
        yield replace(sentences, **{key: value[start : start + size] for key, value in arrays.items()})


def mean_gradient(model: torch.nn.Module, sentences: Sentences) -> dict[str, Tensor]:
    """Gradient of the mean NLL over all answer tokens by every parameter; none is stored in the model."""
    parameters = dict(model.named_parameters())
    total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    for part in chunks(sentences):
        share = part.answer_tokens / sentences.answer_tokens
        gradients = torch.autograd.grad(
            _read(model, part).nll * share, list(parameters.values()), materialize_grads=True
        )
        for name, gradient in zip(parameters, gradients, strict=True):
            total[name] += gradient
    return total


@torch.no_grad()
def answer_probability(model: torch.nn.Module, sentences: Sentences) -> float:
    """Mean probability of the whole answers."""
    every = [_read(model, part).sequence_logps.exp() for part in chunks(sentences)]
    return float(torch.cat(every).double().mean())


def _read(model: torch.nn.Module, sentences: Sentences) -> AnswerBatch:
    device = next(model.parameters()).device
    return AnswerBatch(*read_answers(model, sentences, device), mask=answer_mask(sentences, device))
