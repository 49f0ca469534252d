"""A model whose parameters and optimizer states are divided among the ranks: FSDP2, `trainer.strategy=fsdp`."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.distributed.checkpoint import state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from unlearn_cli.models.anatomy import unwrapped

WHOLE = state_dict.StateDictOptions(full_state_dict=True, cpu_offload=True)
Optimizers = Sequence[torch.optim.Optimizer]


def shard(model: torch.nn.Module, mesh: DeviceMesh | None, device: torch.device) -> torch.nn.Module:
    """A copy of `model` on the device, of which this rank keeps its part: block by block, then all that is left."""
    divided = torch.nn.Module.to(copy.deepcopy(model), device)
    for module in list(divided.modules()):
        if isinstance(module, torch.nn.ModuleList):
            for block in module:
                fully_shard(block, mesh=mesh)
    fully_shard(unwrapped(divided), mesh=mesh)  # the model inside an adapter is the one that is called everywhere
    return divided


def gather_weights(divided: torch.nn.Module, model: torch.nn.Module) -> None:
    """Give the model that `shard` copied the weights that its copy has now, in every rank."""
    everywhere = state_dict.StateDictOptions(full_state_dict=True)
    model.load_state_dict(state_dict.get_model_state_dict(divided, options=everywhere))


def sharded_state(divided: torch.nn.Module, optimizers: Optimizers) -> dict[str, Any]:
    """Weights and optimizer states, whole; all ranks call it, the first one gets them."""
    return {
        "model": state_dict.get_model_state_dict(divided, options=WHOLE),
        "optimizers": [state_dict.get_optimizer_state_dict(divided, one, options=WHOLE) for one in optimizers],
    }


def load_sharded(divided: torch.nn.Module, optimizers: Optimizers, state: Mapping[str, Any]) -> None:
    """Take up what `sharded_state` returned; every rank has read it."""
    whole = state_dict.StateDictOptions(full_state_dict=True)
    state_dict.set_model_state_dict(divided, state["model"], options=whole)
    for optimizer, own in zip(optimizers, state["optimizers"], strict=True):
        state_dict.set_optimizer_state_dict(divided, optimizer, own, options=whole)
