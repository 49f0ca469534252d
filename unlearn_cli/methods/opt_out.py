"""Opt-Out: NPO under a sliced Wasserstein penalty that keeps every weight matrix's rows distributed as they were.

Choi et al. 2024 (arXiv 2406.12329): L = L_NPO + L_retain + lambda sum_p SWD(theta_0,p, theta_p). For a matrix of n rows
in R^d: project the rows of both on random unit directions, sort, sum the squared differences over the rows, average
over the directions; a vector is a matrix of one row. SWD does not see a permutation of rows, so that 0 does not mean
equal weights.
Departures: NPO sums over an answer's tokens, where their code puts a batch mean into the sigmoid; the terms share one
step, where they alternate; one retain pool stands for their neighbouring and world data.
Published: lambda 0.1, 100 directions, beta 0.1, lr 1e-5, 3 epochs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from pydantic import model_validator

from unlearn_cli.component import Count, NonNegative, component
from unlearn_cli.methods.npo import NPO

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@component
class OptOut(NPO):
    """NPO with an optimal-transport penalty on the trained weights."""

    VERSION: ClassVar[int] = 3

    ot_weight: NonNegative = 3.0
    projections: Count = 100

    @model_validator(mode="after")
    def _weights_themselves(self) -> OptOut:
        if self.adapter.rank:
            raise ValueError(f"adapter.rank = {self.adapter.rank}: opt_out's penalty reads trained weights, so 0")
        return self

    def penalty(self, model: Module, seed: int) -> Callable[[int], Tensor] | None:
        """The distance of the trained weights from where they start, on fresh directions each step."""
        from unlearn_cli.methods.wasserstein import distance_from_start

        if self.ot_weight == 0:
            return None
        distance = distance_from_start(model, self.projections, seed)
        return lambda step: self.ot_weight * distance(step)
