"""FILA: LoRA adapters that start from the weights which the forget set needs most.

Cha et al. 2025 (ICLR, arXiv 2408.06621). I = I_f / (1e-5 + I_r), the Fisher information of forget over that of retain
facts; w_i = sqrt(sum_j I_ij) weighs row i of a matrix W, and with the SVD diag(w) W = U S V^T cut at the rank, and
c = alpha / rank, A = sqrt(S / c) V^T and B = diag(1 / (w + 1e-5)) U sqrt(S / c). W - c B A is frozen in W's place, so
that the model is unchanged and the adapter holds what is to go. As in their code the gradients that are squared are
those of batches; unlike there the SVD is exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from unlearn_cli.errors import UnlearnError
from unlearn_cli.methods.fisher import diagonal
from unlearn_cli.streams import generator
from unlearn_cli.worlds.base import WorldData
from unlearn_cli.worlds.language import Sentences

if TYPE_CHECKING:
    from unlearn_cli.methods.base import EditData

EPSILON = 1e-5


def importance(model: torch.nn.Module, data: EditData, seed: int) -> tuple[dict[str, Tensor], int]:
    """I_f / (1e-5 + I_r) of every parameter, each fact written once in a template drawn for it; the tokens read."""
    assert data.forget is not None and data.retain is not None
    sets = _written(data.forget, seed, "forget"), _written(data.retain, seed, "retain")
    forget, retain = (diagonal(model, sentences, "per_batch") for sentences in sets)
    tokens = sum(int(each.answer_end.sum()) for each in sets)
    return {name: forget[name] / (EPSILON + retain[name]) for name in forget}, tokens


def initialise(adapted: Any, importances: dict[str, Tensor]) -> None:
    """Set the LoRA adapters of a PEFT model, and what they leave of the weights they adapt."""
    for name, module in adapted.get_base_model().named_modules():
        if not hasattr(module, "lora_A"):
            continue
        if f"{name}.weight" not in importances:
            raise UnlearnError(
                f"method.adapter.init: fila cannot split {name}, whose weights are those of another part"
            )
        first, second = module.lora_A["default"].weight, module.lora_B["default"].weight
        weight, ratio, scale = module.base_layer.weight.data, importances[f"{name}.weight"], module.scaling["default"]
        if module.fan_in_fan_out:  # GPT-2 stores W transposed
            weight, ratio = weight.T, ratio.T
        a, b = factors(weight, ratio, len(first), scale)
        with torch.no_grad():
            first.copy_(a)
            second.copy_(b)
            weight -= (scale * second.double() @ first.double()).to(weight.dtype)


def factors(weight: Tensor, ratio: Tensor, rank: int, scale: float) -> tuple[Tensor, Tensor]:
    """A [rank, d_in] and B [d_out, rank] of weight [d_out, d_in], in float64."""
    rows = ratio.double().sum(1).sqrt()
    u, s, vh = torch.linalg.svd(rows[:, None] * weight.detach().double(), full_matrices=False)
    a, b = weight.new_zeros(rank, weight.shape[1]).double(), weight.new_zeros(len(weight), rank).double()
    kept, root = min(rank, len(s)), (s[:rank] / scale).sqrt()
    a[:kept] = root[:, None] * vh[:kept]
    b[:, :kept] = u[:, :kept] * root / (rows[:, None] + EPSILON)
    return a, b


def _written(world: WorldData, seed: int, purpose: str) -> Sentences:
    """Every fact once."""
    facts, asked = np.arange(len(world.facts)), world.language.asked
    places = generator(seed, "edit", "fila", purpose).integers(0, len(asked), len(facts))
    return world.sentences(facts, asked[places])
