"""What the parts of a decoder are called, in the architectures of transformers: every name that code here relies on.

An architecture with names of its own needs a line here and nothing elsewhere.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

MLP = ("mlp", "fc1", "fc2")  # OPT's matrices stand in the block itself
ATTENTION = ("attention", "attn")
INPUTS = ("dense_h_to_4h", "gate_proj", "c_fc", "fc1", "fc_in")  # the first matrix of an MLP, before the nonlinearity
OUTPUTS = ("dense_4h_to_h", "down_proj", "c_proj", "fc2", "fc_out")  # its second one
FINAL_NORMS = ("final_layer_norm", "final_layernorm", "norm", "ln_f")  # between the last block and the output layer
BLOCK = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")  # in the dotted name of a weight


def block_of(name: str) -> int | None:
    """The number of the block that a weight is in, by its dotted name; None outside the blocks."""
    found = BLOCK.search(f"{name}.")
    return int(found[1]) if found else None


def in_parts(name: str, parts: tuple[str, ...]) -> bool:
    """Whether a weight or module, by its dotted name, belongs to parts of a block; layer norms belong to none."""
    return any(part in piece for part in parts for piece in name.split(".") if "layernorm" not in piece)


def mlp_matrix(block: Module, names: tuple[str, ...]) -> Module | None:
    """The module of a block's MLP that has one of these names."""
    for name, module in block.named_modules():
        if in_parts(name, MLP) and name.rpartition(".")[2] in names:
            return module
    return None


def gain(norm: Any) -> Tensor:
    """What a norm multiplies each coordinate of a normed state by [d]; some count their weights from 1."""
    import torch

    weight: Tensor = norm.weight.detach()
    if "RMS" not in type(norm).__name__:
        return weight
    found: Tensor = norm(torch.ones_like(weight)).detach()
    return found


def stack(body: Module, depth: int) -> tuple[Any, str]:
    """Where the list of `depth` blocks is: the module that holds it, and its name there; a LookupError without one."""
    from torch.nn import ModuleList

    for name, module in body.named_modules():
        if isinstance(module, ModuleList) and len(module) == depth:
            above, _, last = name.rpartition(".")
            return body.get_submodule(above), last
    raise LookupError(f"no list of {depth} blocks in {type(body).__name__}")
