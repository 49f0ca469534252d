"""The sliced Wasserstein distance between two sets of vectors, and of a model's weights from their start."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from unlearn_cli.streams import derive


def sliced(a: Tensor, b: Tensor, directions: Tensor) -> Tensor:
    """Squared distance of rows of a and b [n, d] along unit directions [d, k]: summed over rows, averaged over k."""
    differences = (a @ directions).sort(dim=0).values - (b @ directions).sort(dim=0).values
    return differences.square().sum(0).mean()


def unit_directions(size: int, count: int, stream: torch.Generator) -> Tensor:
    """`count` directions, uniform on the sphere in R^size, as columns."""
    drawn = torch.randn(size, count, generator=stream)
    return drawn / drawn.norm(dim=0)


def distance_from_start(model: torch.nn.Module, projections: int, seed: int) -> Callable[[int], Tensor]:
    """The summed distance of all trained weights from their values now, on directions of its own in each step."""
    parameters = list(model.parameters())
    start = [p.detach().clone() for p in parameters]

    def distance(step: int) -> Tensor:
        stream = torch.Generator().manual_seed(derive(seed, "edit", "sliced wasserstein", step))
        terms = []
        for now, then in zip(parameters, start, strict=True):
            if now.requires_grad:
                rows, before = (now, then) if now.ndim > 1 else (now[None], then[None])
                directions = unit_directions(rows.shape[1], projections, stream).to(rows)
                terms.append(sliced(rows, before, directions))
        return torch.stack(terms).sum()

    return distance
