"""Round the weights and ask again: round-to-nearest quantisation, symmetric, one step for each group of weights.

Zhang et al. 2025 (arXiv 2410.16454): small updates vanish when edited and base weights round to the same value. Delta =
max|w| / (2^(b-1) - 1), code = clip(rint(w / Delta), -2^(b-1), 2^(b-1) - 1). The paper's text writes the step with
2^(b-1). Only linear layers within the blocks; embeddings, norms and the output layer stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from unlearn_cli.component import Count, component
from unlearn_cli.evaluation import Arrays, Role
from unlearn_cli.observations.attacked import arrays, evaluated_rows
from unlearn_cli.observations.base import Observation, Scene

if TYPE_CHECKING:
    from torch import Tensor

Bits = Annotated[int, Field(ge=2, le=16)]


@component
class Quantized(Observation):
    """Answers of the model with rounded weights, and how many weights round to what the base's round to."""

    VERSION: ClassVar[int] = 1
    guarded: ClassVar[bool] = False  # who can round the weights has them
    beside: ClassVar[tuple[Role, ...]] = ("base",)

    bits: Bits
    group: Count  # weights of one output that share a step; the last group of an output may be smaller

    def observe(self, model: Any, scene: Scene) -> Arrays:
        """`attacked.arrays` with one try; `same_code`, `same_value` of `weights` are as in the rounded base."""
        import torch

        from unlearn_cli import predict

        base, counts = linear_weights(scene.beside["base"]), np.zeros(3, dtype=np.int64)
        with torch.no_grad():
            for name, weight in linear_weights(model).items():
                code, value = quantize(weight, self.bits, self.group)
                base_code, base_value = quantize(base[name], self.bits, self.group)
                counts += [int((code == base_code).sum()), int((value == base_value).sum()), code.numel()]
                weight.copy_(value)
        rows = evaluated_rows(scene.probes)
        answers = predict.predict(model, scene.world, scene.probes.only(rows), scene.batch_size)
        named = dict(zip(("same_code", "same_value", "weights"), map(np.array, counts), strict=True))
        return arrays(rows, [answers], **named)


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

    codes, values, top = [], [], 2 ** (bits - 1)
    for part in weight.split(group, dim=1):
        step = part.abs().amax(dim=1, keepdim=True) / (top - 1)
        code = (part / torch.where(step > 0, step, 1.0)).round().clamp(-top, top - 1)
        codes.append(code)
        values.append(code * step)
    return torch.cat(codes, dim=1), torch.cat(values, dim=1)
