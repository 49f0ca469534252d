"""Where Lightning's Trainer runs a loop: on this process's own devices, or as one rank of a strategy."""

from __future__ import annotations

from typing import Any

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, SingleDeviceStrategy, Strategy

from unlearn_cli.machine import Numerics
from unlearn_cli.training.ranks import Crew


def placed(numerics: Numerics, crew: Crew) -> dict[str, Any]:
    """The Trainer's arguments."""
    if crew.size == 1:
        strategy = _InPlace(numerics.places[0]) if numerics.spread else "auto"
        return {"accelerator": numerics.accelerator, "devices": 1, "strategy": strategy}
    return {
        "accelerator": numerics.accelerator,
        "devices": numerics.devices,
        "num_nodes": numerics.nodes,
        "strategy": _strategy(numerics, crew),
        "plugins": [_Started(crew, numerics.devices)],
    }


def _strategy(numerics: Numerics, crew: Crew) -> Strategy:
    """The whole model in each process, or the parameters divided among them (FSDP2)."""
    if numerics.strategy == "fsdp":
        return ModelParallelStrategy(data_parallel_size=crew.size, tensor_parallel_size=1)
    # A loss may leave parameters out: states behind a block do not depend on the blocks above it.
    return DDPStrategy(find_unused_parameters=True, broadcast_buffers=False)


class _InPlace(SingleDeviceStrategy):
    """Leaves the model where it is: its blocks may lie on several devices."""

    def model_to_device(self) -> None:
        pass


class _Started(ClusterEnvironment):
    """Ranks that were started, and connected with each other, before there was a Trainer."""

    def __init__(self, crew: Crew, devices: int) -> None:
        self.crew, self.devices = crew, devices

    creates_processes_externally = True
    main_address = ""  # the processes are connected already
    main_port = 0

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self.crew.size

    def set_world_size(self, size: int) -> None:
        pass

    def global_rank(self) -> int:
        return self.crew.rank

    def set_global_rank(self, rank: int) -> None:
        pass

    def local_rank(self) -> int:
        return self.crew.rank % self.devices

    def node_rank(self) -> int:
        return self.crew.rank // self.devices
