"""The diagonal empirical Fisher information: the mean squared gradient of the answers' NLL, weight by weight.

`per_example` squares the gradient of each sentence's NLL, the mean over its answer tokens, so that a sentence counts
once whatever its length. `per_batch` squares the gradient of a batch's mean NLL, as much published code does: smaller
by up to the batch size, because gradients of different signs cancel before they are squared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy

from unlearn_cli.errors import UnlearnError
from unlearn_cli.models.forward import answer_logits
from unlearn_cli.worlds.language import Sentences

How = Literal["per_example", "per_batch"]
Loss = Callable[[Tensor, Tensor], Tensor]  # (logits [B, T, V], labels [B, T]) -> scalar

BATCH = 32  # sentences whose mean is squared by `per_batch`
MOST = 2**24  # numbers that the gradients of one pass may hold


def nll(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over all answer tokens."""
    return cross_entropy(logits.flatten(0, 1), labels.flatten())


@contextmanager
def by_functions() -> Iterator[None]:
    """Say plainly that an architecture has derivatives of its own that torch.func cannot read."""
    try:
        yield
    except RuntimeError as error:
        if "autograd.Function" not in str(error):
            raise
        what = "torch.func cannot differentiate functions of this architecture"
        raise UnlearnError(f"{what}, which methods by Fisher information or curvature need") from None


@by_functions()
def diagonal(
    model: torch.nn.Module,
    sentences: Sentences,
    how: How = "per_example",
    loss: Loss = nll,
    batch: int = BATCH,
    power: int = 2,
) -> dict[str, Tensor]:
    """Mean |gradient|^power of `loss` by every parameter, under its name in `named_parameters`; a tied one has one.

    The model is left as it is: no gradient is stored, and parameters that are not trained are included.
    """
    reader = Reader(model)
    parameters = {name: p.detach() for name, p in reader.named_parameters()}
    totals = {name: torch.zeros_like(p) for name, p in parameters.items()}
    device = next(iter(parameters.values())).device

    def one(weights: dict[str, Tensor], ids: Tensor, labels: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        logits = functional_call(reader, weights, (ids, positions))
        return loss(logits, labels) if mask is None else loss(logits[mask][None], labels[mask][None])

    def row(weights: dict[str, Tensor], ids: Tensor, labels: Tensor, positions: Tensor) -> Tensor:
        return one(weights, ids[None], labels[None], positions, None)

    for rows in _passes(sentences, how, batch, sum(p.numel() for p in parameters.values())):
        labels = torch.from_numpy(sentences.answers[rows]).to(device)
        positions = torch.from_numpy(sentences.positions[rows] - 1).to(device)
        ids = torch.from_numpy(sentences.input_ids[rows]).to(device)[:, : int(positions.max()) + 1]
        if how == "per_example":  # these rows have their answers in the same place
            tokens = int(sentences.answer_end[rows[0]] - sentences.answer_start[rows[0]]) + 1
            with sdpa_kernel(SDPBackend.MATH):  # the fused kernels would run row by row
                found = vmap(grad(row), (None, 0, 0, None))(parameters, ids, labels[:, :tokens], positions[0, :tokens])
            squares = {name: (each.abs() ** power).sum(0) for name, each in found.items()}
        else:
            mask = None if sentences.answer_mask is None else torch.from_numpy(sentences.answer_mask[rows]).to(device)
            found = grad(one)(parameters, ids, labels, positions, mask)
            squares = {name: len(rows) * each.abs() ** power for name, each in found.items()}
        for name, square in squares.items():
            totals[name] += square
    return {name.removeprefix("model."): total / len(sentences.length) for name, total in totals.items()}


class Reader(torch.nn.Module):
    """A model whose output is the logits at given positions."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, positions: Tensor) -> Tensor:
        return answer_logits(self.model, ids, positions)


def _passes(sentences: Sentences, how: How, batch: int, parameters: int) -> list[np.ndarray]:
    """Rows of each pass: batches in order, or as many rows with the same answer positions as fit in memory."""
    every = np.arange(len(sentences.length))
    if how == "per_batch":
        return [every[start : start + batch] for start in range(0, len(every), batch)]
    size = max(1, MOST // parameters)
    places = np.stack([sentences.answer_start, sentences.answer_end], axis=1)
    groups = [every[(places == place).all(axis=1)] for place in np.unique(places, axis=0)]
    return [piece for group in groups for piece in np.array_split(group, math.ceil(len(group) / size))]
