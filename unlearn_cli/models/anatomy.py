"""What the parts of a decoder are called, in the architectures of transformers: every name that code here relies on.

An architecture with names of its own needs a line here and nothing elsewhere.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

MLP = ("mlp", "ffn", "feed_forward", "fc1", "fc2")  # OPT's matrices stand in the block itself
ATTENTION = ("attention", "attn")
# the first matrix of an MLP, before the nonlinearity, and its second one
INPUTS = ("dense_h_to_4h", "gate_proj", "up_proj", "c_fc", "fc1", "fc_in", "w1")
OUTPUTS = ("dense_4h_to_h", "down_proj", "c_proj", "fc2", "fc_out", "w2")
FINAL_NORMS = (  # between the last block and the output layer
    "final_layer_norm", "final_layernorm", "norm", "norm_f", "ln_f", "layer_norm", "embedding_norm",
)  # fmt: skip
NORM = re.compile(r"norm|^ln_")  # in a piece of a dotted name
BLOCK = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")  # in the dotted name of a weight


def block_of(name: str) -> int | None:
    """The number of the block that a weight is in, by its dotted name; None outside the blocks."""
    found = BLOCK.search(f"{name}.")
    return int(found[1]) if found else None


def in_parts(name: str, parts: tuple[str, ...]) -> bool:
    """Whether a weight or module, by its dotted name, belongs to parts of a block; norms belong to none."""
    return not _of_norm(name) and any(part in piece for part in parts for piece in name.split("."))


def in_block(name: str) -> bool:
    """Whether a weight or module, by its dotted name, belongs to a block at all; norms belong to none."""
    return block_of(name) is not None and not _of_norm(name)


def _of_norm(name: str) -> bool:
    return any(map(NORM.search, name.split(".")))


def mlp_matrix(block: Module, names: tuple[str, ...]) -> Module | None:
    """The module of a block's MLP that has one of these names."""
    for name, module in block.named_modules():
        if in_parts(name, MLP) and name.rpartition(".")[2] in names:
            return module
    return None


def gain(norm: Any, like: Tensor) -> Tensor:
    """What a norm multiplies each coordinate of a normed state by, for states such as `like` [d]: [d].

    Asked of the norm itself, since some have no weights and some count them from 1.
    """
    probe = _normed(like)
    found: Tensor = (norm(probe) - norm(-probe)).detach() / 2 * probe
    return found


def centres(norm: Any, like: Tensor) -> bool:
    """Whether a norm takes the mean off a state such as `like` [d]."""
    import torch

    probe = _normed(like)
    with torch.no_grad():
        found, shifted = norm(probe), norm(probe + 1)
    return bool(torch.allclose(shifted, found, rtol=0.05, atol=0.05 * float(found.abs().max())))


def _normed(like: Tensor) -> Tensor:
    """A state with mean 0, of as many coordinates, that a norm leaves as it is but for its gain and bias."""
    import torch

    probe = torch.ones_like(like)
    probe[1::2] = -1
    return probe


def stack(model: Any) -> tuple[Any, str]:
    """The module that holds the list of a model's blocks, and the list's name there; a LookupError without one."""
    from torch.nn import ModuleList

    body, depth = model.base_model, model.config.get_text_config().num_hidden_layers
    for name, module in body.named_modules():
        if isinstance(module, ModuleList) and len(module) == depth:
            above, _, last = name.rpartition(".")
            return body.get_submodule(above), last
    raise LookupError(f"no list of {depth} blocks in {type(body).__name__}")


def unwrapped(model: Any) -> Any:
    """The transformers model inside a PEFT wrapper, adapters included."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
