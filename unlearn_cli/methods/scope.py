"""Which weights an edit trains: all, some parts or layers, or those that a pattern names; themselves or by LoRA."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from unlearn_cli.errors import UnlearnError
from unlearn_cli.models.anatomy import ATTENTION, MLP, OUTPUTS, block_of, in_block, in_parts
from unlearn_cli.streams import derive

if TYPE_CHECKING:
    from torch.nn import Module
    from transformers import PreTrainedModel

    from unlearn_cli.methods.loss import Adapter

PARTS = {"mlp": MLP, "attention": ATTENTION}
HOW = "all | blocks | mlp | attention | mlp_out | layers:0,2 | regex:<pattern of parameter names>"

Test = Callable[[str], bool]


def parse_scope(scope: str) -> Test:
    """Whether a parameter, by its dotted name, belongs to `scope`; a ValueError that says what there is."""
    kind, _, argument = scope.partition(":")
    if scope in ("all", "blocks"):
        return in_block
    if scope in PARTS:
        return lambda name: in_parts(name, PARTS[scope])
    if scope == "mlp_out":
        return lambda name: in_parts(name, MLP) and any(piece in OUTPUTS for piece in name.split("."))
    if kind == "layers" and re.fullmatch(r"\d+(,\d+)*", argument):
        layers = set(map(int, argument.split(",")))
        return lambda name: block_of(name) in layers
    if kind == "regex" and argument:
        try:
            pattern = re.compile(argument)
        except re.error as error:
            raise ValueError(f"scope = {scope}: {error}") from None
        return lambda name: pattern.search(name) is not None
    raise ValueError(f"scope = {scope}: expected {HOW}")


def in_scope(name: str, scope: str) -> bool:
    """Whether a parameter or module, by its dotted name, belongs to `scope`; `all` here means all of a block."""
    return parse_scope(scope)(name)


def prepare(model: PreTrainedModel, scope: str, adapter: Adapter, seed: int) -> Module:
    """Leave only the scope's weights trainable; with a rank, wrap its matrices in LoRA adapters instead."""
    import torch

    belongs = parse_scope(scope)
    if adapter.rank == 0:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(scope == "all" or belongs(name))
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise UnlearnError(f"method.scope: {scope} names no weight of this model")
        return model
    from peft import LoraConfig, get_peft_model

    matrices = {name: module for name, module in model.named_modules() if _is_matrix(module) and belongs(name)}
    if not matrices:
        raise UnlearnError(f"method.scope: {scope} names no matrix of this model that method.adapter.rank could adapt")
    transposed = {type(module).__name__ == "Conv1D" for module in matrices.values()}
    if len(transposed) > 1:
        raise UnlearnError(f"method.scope: {scope} names matrices stored both ways round: adapt one kind at a time")
    config = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha or adapter.rank,
        target_modules=list(matrices),
        lora_dropout=0.0,
        fan_in_fan_out=transposed.pop(),
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)  # which peft asks for
        torch.manual_seed(derive(seed, "edit", "lora"))
        return get_peft_model(model, config)


def merge_adapter(model: Any) -> None:
    """Fold LoRA adapters into the weights they adapt, so that the edited model is a plain one."""
    if hasattr(model, "merge_and_unload"):
        model.merge_and_unload()


def _is_matrix(module: Module) -> bool:
    """A linear layer, of GPT-2 too, which stores its matrices transposed."""
    from torch.nn import Linear

    return isinstance(module, Linear) or type(module).__name__ == "Conv1D"
