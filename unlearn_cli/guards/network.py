"""A second model inside a guard: made again from its `transformers` config, its weights are the guard's tensors."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import torch

from unlearn_cli.errors import UnlearnError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def described(network: PreTrainedModel) -> dict[str, Any]:
    """What `made` needs: what stands in a checkpoint's config.json."""
    said: dict[str, Any] = json.loads(network.config.to_json_string())
    return said


def made(config: dict[str, Any]) -> PreTrainedModel:
    """A float32 network of this config with weights of no meaning; the ambient random stream is left alone."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        network: Any = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(**config), dtype=torch.float32, trust_remote_code=False
        )
    fresh: PreTrainedModel = network.eval()
    return fresh


def first_blocks(model: PreTrainedModel, blocks: int) -> PreTrainedModel:
    """A copy of the embeddings, the first blocks, the final norm and the output layer, on the model's device."""
    depth = model.config.num_hidden_layers
    if blocks > depth:
        raise UnlearnError(f"method.layers: {blocks} given; the model has {depth} blocks")
    config = copy.deepcopy(model.config)
    config.num_hidden_layers = blocks
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:blocks]
    network: Any = made(config.to_dict())
    absent = network.load_state_dict(model.state_dict(), strict=False).missing_keys  # later blocks find no place
    if absent:
        raise UnlearnError(f"a model of {blocks} blocks has {absent[0]}, which the model of {depth} blocks has not")
    shallow: PreTrainedModel = network.to(model.device)
    return shallow
