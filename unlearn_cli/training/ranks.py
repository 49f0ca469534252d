"""The processes that take a step together, one a device: what each reads of a batch, and what they tell each other.

Every rank draws the same global batch, sends a contiguous share of its rows through the model, and is told the other
ranks' outputs, so that it computes the very loss of one process: L(o_1, .., o_R), whatever L makes of its rows. It can
differentiate that by its own outputs alone; since dL/dw = sum_r dL/do_r do_r/dw, the gradients of all ranks add up to
that of one process. Strategies average gradients, so each is multiplied by the number of ranks where it enters.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Share:
    """The rows of a batch that one rank reads. With fewer rows than ranks some read one that does not count."""

    rows: slice
    idle: bool = False


@dataclass(frozen=True)
class Crew:
    """All ranks of a stage, seen by one of them."""

    rank: int = 0
    size: int = 1
    stepping: threading.Event = field(default_factory=threading.Event)  # set while a loop runs
    leaving: threading.Event = field(default_factory=threading.Event)  # set to end a loop behind its step

    def share(self, n: int) -> Share:
        """This rank's part of `n` rows; the parts differ by at most one row."""
        if self.size == 1:
            return Share(slice(0, n))
        rows = slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)
        return Share(rows) if rows.stop > rows.start else Share(slice(0, 1), idle=True)

    def joined(self, own: Tensor, idle: bool = False) -> Tensor:
        """The rows of all ranks [N, ...] in order, given this one's; gradients flow into these alone."""
        if self.size == 1:
            return own
        own = own[:0] if idle else own
        parts = self._parts(own.detach())
        parts[self.rank] = _Times.apply(own, self.size) if own.requires_grad else own
        return torch.cat(parts)

    def mean(self, own: Tensor, count: int) -> Tensor:
        """The mean over all ranks' items of what `own` is the mean of over `count` items of this rank."""
        if self.size == 1:
            return own
        counts = self._parts(torch.tensor([float(count)], dtype=torch.float64, device=self._device))
        share = count / float(torch.cat(counts).sum())
        return self.joined((own * share)[None]).sum()

    def total(self, own: int) -> int:
        """A count over all ranks."""
        if self.size == 1:
            return own
        counted = torch.tensor(own, device=self._device)
        distributed.all_reduce(counted)
        return int(counted)

    def agree(self, *wishes: bool) -> list[bool]:
        """What the first rank wishes."""
        if self.size == 1:
            return list(wishes)
        told = torch.tensor(wishes, dtype=torch.uint8, device=self._device)
        distributed.broadcast(told, 0)
        return [bool(wish) for wish in told.tolist()]

    @property
    def _device(self) -> str:
        return "cuda" if distributed.get_backend() == "nccl" else "cpu"

    def _parts(self, own: Tensor) -> list[Tensor]:
        """What each rank has; their first dimensions may differ."""
        length = torch.tensor([len(own)], device=own.device)
        lengths = [torch.empty_like(length) for _ in range(self.size)]
        distributed.all_gather(lengths, length)
        longest = max(int(one) for one in lengths)
        padded = own.new_zeros(longest, *own.shape[1:])
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        distributed.all_gather(parts, padded)
        return [part[: int(one)] for part, one in zip(parts, lengths, strict=True)]


ALONE = Crew()


class _Times(torch.autograd.Function):
    """The same values; a gradient `factor` times as large."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, factor: int) -> Tensor:  # type: ignore[override]
        ctx.factor = factor
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient * ctx.factor, None
