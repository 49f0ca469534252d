"""Round the weights and ask again: to the nearest of evenly spaced values, or of 4-bit normal floats, in groups.

Zhang et al. 2025 (arXiv 2410.16454): small updates vanish when edited and base weights round to the same value. Delta =
max|w| / (2^(b-1) - 1), code = clip(rint(w / Delta), -2^(b-1), 2^(b-1) - 1). The paper's text writes the step with
2^(b-1). NF4 (Dettmers et al. 2023, arXiv 2305.14314): w / max|w| goes to the nearest of 16 levels, quantiles of a
normal distribution; max|w| itself is not quantised. Only linear layers within the blocks; embeddings, norms and the
output layer stay.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from unlearn_cli.component import Count, component
from unlearn_cli.evaluation import Arrays, Role
from unlearn_cli.observations.attacked import arrays, evaluated_rows
from unlearn_cli.observations.base import Observation, Scene

if TYPE_CHECKING:
    from torch import Tensor

Bits = Annotated[int, Field(ge=2, le=16)]
Scheme = Literal["rtn", "nf4"]


@component
class Quantized(Observation):
    """Answers of the model with rounded weights, and how many weights round to what the base's round to."""

    VERSION: ClassVar[int] = 1
    guarded: ClassVar[bool] = False  # who can round the weights has them
    beside: ClassVar[tuple[Role, ...]] = ("base",)

    bits: Bits
    group: Count  # weights of one output that share a step; the last group of an output may be smaller
    scheme: Scheme = "rtn"  # evenly spaced values | normal floats, which have 4 bits

    def observe(self, model: Any, scene: Scene) -> Arrays:
        """`attacked.arrays` with one try; `same_code`, `same_value` of `weights` are as in the rounded base."""
        import torch

        from unlearn_cli import predict

        base, counts = linear_weights(scene.beside["base"]), np.zeros(3, dtype=np.int64)
        with torch.no_grad():
            for name, weight in linear_weights(model).items():
                code, value = self._rounded(weight)
                base_code, base_value = self._rounded(base[name])
                counts += [int((code == base_code).sum()), int((value == base_value).sum()), code.numel()]
                weight.copy_(value)
        rows = evaluated_rows(scene.probes)
        answers = predict.predict(model, scene.world, scene.probes.only(rows), scene.batch_size)
        named = dict(zip(("same_code", "same_value", "weights"), map(np.array, counts), strict=True))
        return arrays(rows, [answers], **named)

    def _rounded(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return normal_float(weight, self.group) if self.scheme == "nf4" else quantize(weight, self.bits, self.group)


def linear_weights(model: Any) -> dict[str, Tensor]:
    """Weights [outputs, inputs] of the linear layers but the output layer, as views, by name."""
    import torch

    head, found = model.get_output_embeddings(), {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and module is not head:
            found[name] = module.weight.data
        elif type(module).__name__ == "Conv1D":  # GPT-2's: inputs first
            found[name] = module.weight.data.T
    return found


def quantize(weight: Tensor, bits: int, group: int) -> tuple[Tensor, Tensor]:
    """Codes and rounded values of weights [outputs, inputs], in groups along the inputs."""
    import torch

    top = 2 ** (bits - 1)

    def rounded(part: Tensor, largest: Tensor) -> tuple[Tensor, Tensor]:
        step = largest / (top - 1)
        code = (part / torch.where(step > 0, step, 1.0)).round().clamp(-top, top - 1)
        return code, code * step

    return _in_groups(weight, group, rounded)


def normal_float(weight: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """Codes 0 to 15 and rounded values of weights [outputs, inputs], in groups along the inputs."""
    import torch

    levels = torch.tensor(normal_levels(), dtype=weight.dtype, device=weight.device)
    between = (levels[1:] + levels[:-1]) / 2

    def rounded(part: Tensor, largest: Tensor) -> tuple[Tensor, Tensor]:
        code = torch.bucketize((part / torch.where(largest > 0, largest, 1.0)).contiguous(), between)
        return code, levels[code] * largest

    return _in_groups(weight, group, rounded)


def normal_levels() -> list[float]:
    """The 16 levels of NF4, from -1 to 1: quantiles of a standard normal over the largest, 8 above 0 and 7 below.

    The outermost leave (1/32 + 1/30) / 2 of the mass outside, halfway between 16 and 15 equal parts.
    """
    outermost = 1 - (1 / 32 + 1 / 30) / 2

    def side(count: int) -> list[float]:
        return [NormalDist().inv_cdf(p) for p in np.linspace(outermost, 0.5, count + 1)[:-1]]

    above, below = side(8), side(7)
    return sorted(level / above[0] for level in (*above, 0.0, *(-value for value in below)))


def _in_groups(
    weight: Tensor, group: int, rounded: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Round each group of weights [outputs, inputs] given its largest magnitude [outputs, 1]."""
    import torch

    parts = [rounded(part, part.abs().amax(dim=1, keepdim=True)) for part in weight.split(group, dim=1)]
    codes, values = zip(*parts, strict=True)
    return torch.cat(codes, dim=1), torch.cat(values, dim=1)
