"""The generalised Gauss-Newton matrix of a model's answers, and linear systems in it, without ever writing it down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.func import functional_call, jvp, vjp
from torch.nn.attention import SDPBackend, sdpa_kernel

from unlearn_cli.methods.fisher import Reader, by_functions
from unlearn_cli.methods.gradients import chunks
from unlearn_cli.training.fit import answer_mask
from unlearn_cli.worlds.language import Sentences

Vector = Mapping[str, Tensor]  # by the names of parameters


class GaussNewton:
    """G = mean over answer tokens of J^T (diag(p) - p p^T) J: the Hessian of the mean NLL were the logits linear."""

    def __init__(self, model: torch.nn.Module, sentences: Sentences, names: Sequence[str]) -> None:
        self.reader, self.sentences = Reader(model), sentences
        self.weights = {f"model.{name}": model.get_parameter(name).detach() for name in names}

    @by_functions()
    @torch.no_grad()  # of what is not a weight in `names`
    def product(self, vector: Vector) -> dict[str, Tensor]:
        """G v."""
        tangent = {f"model.{name}": value for name, value in vector.items()}
        total = {name: torch.zeros_like(value) for name, value in vector.items()}
        device = next(iter(self.weights.values())).device
        for part in chunks(self.sentences):
            positions = torch.from_numpy(part.positions - 1).to(device)
            ids = torch.from_numpy(part.input_ids).to(device)[:, : int(positions.max()) + 1]

            def logits(weights: Vector, ids: Tensor = ids, positions: Tensor = positions) -> Tensor:
                read: Tensor = functional_call(self.reader, dict(weights), (ids, positions))
                return read

            share, mask = part.answer_tokens / self.sentences.answer_tokens, answer_mask(part, device)
            with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no forward derivative
                pair: tuple[Tensor, Tensor] = jvp(logits, (self.weights,), (tangent,))  # type: ignore[assignment]
                values, forward = pair
                pull: Callable[[Tensor], tuple[Vector]] = vjp(logits, self.weights)[1]
                p = values.softmax(-1)
                cotangent = p * (forward - (p * forward).sum(-1, keepdim=True)) * (share / part.answer_tokens)
                cotangent = cotangent if mask is None else cotangent * mask[..., None]
                (pulled,) = pull(cotangent)
            for name in total:
                total[name] += pulled[f"model.{name}"]
        return total


def conjugate_gradient(
    product: Callable[[Vector], Vector], right: Vector, damping: float, iterations: int, tolerance: float = 1e-6
) -> tuple[dict[str, Tensor], int]:
    """Solve (A + damping I) x = right for a positive semi-definite A; x, and how many products it took.

    Ends when the residual's norm is `tolerance` of the right side's, or after `iterations`.
    """
    solution = {name: torch.zeros_like(value) for name, value in right.items()}
    residual = dict(right)
    direction = dict(right)
    square = first = _dot(residual, residual)
    for done in range(iterations):
        if square <= tolerance**2 * first:
            return solution, done
        image = product(direction)
        image = {name: image[name] + damping * value for name, value in direction.items()}
        size = square / _dot(direction, image)
        solution = {name: value + size * direction[name] for name, value in solution.items()}
        residual = {name: value - size * image[name] for name, value in residual.items()}
        square, before = _dot(residual, residual), square
        direction = {name: value + square / before * direction[name] for name, value in residual.items()}
    return solution, iterations


def _dot(one: Vector, other: Vector) -> float:
    return float(sum((value.double() * other[name].double()).sum() for name, value in one.items()))
