"""What this machine offers, found out without importing torch, so that a cached run stays light.

Accelerator and precision change the bits of a result and enter its digest; they are therefore resolved from what the
hardware is, never from a measurement.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from unlearn_cli.errors import UnlearnError

CARDS = Path("/proc/driver/nvidia/gpus")  # a folder for each, by the driver


@dataclass(frozen=True)
class Numerics:
    """What a stage computes on and with."""

    accelerator: str  # "cpu" | "cuda" | "mps"
    devices: int  # of each node
    threads: int
    precision: str  # "fp32" | "bf16": matrix products of training in bfloat16, weights and sums in float32
    nodes: int = 1
    strategy: str = "ddp"  # "ddp" | "fsdp": how several devices share a model
    spread: bool = False  # whether one process has its model's blocks on all devices that it sees; changes no number

    @property
    def ranks(self) -> int:
        """Processes that train together, one a device."""
        return self.devices * self.nodes

    @property
    def places(self) -> list[str]:
        """The devices that a model of this process lies on; the first one has ids, labels and logits."""
        if not self.spread or self.accelerator != "cuda":
            return [self.accelerator]
        import torch

        return [f"cuda:{number}" for number in range(torch.cuda.device_count())]

    def to_dict(self) -> dict[str, Any]:
        """As it enters a digest."""
        one = {
            "accelerator": self.accelerator,
            "devices": self.devices,
            "threads": self.threads,
            "precision": self.precision,
        }
        return one if self.ranks == 1 else one | {"nodes": self.nodes, "strategy": self.strategy}


def resolve(
    accelerator: str, devices: int, threads: int, precision: str, nodes: int = 1, strategy: str = "auto"
) -> Numerics:
    """Replace each `auto`: CUDA before the CPU, bf16 where the hardware multiplies it, the whole model in each rank."""
    if accelerator == "auto":
        accelerator = "cuda" if has_cuda() else "cpu"
    if precision == "auto":
        precision = "bf16" if accelerator == "cuda" or (accelerator == "cpu" and has_amx()) else "fp32"
    return Numerics(accelerator, devices, threads, precision, nodes, "ddp" if strategy == "auto" else strategy)


@cache
def has_cuda() -> bool:
    """Whether torch is a CUDA build and a visible NVIDIA device exists."""
    try:
        cpu_build = version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return False
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1")
    return not cpu_build and not hidden and Path("/dev/nvidiactl").exists()


def cards() -> int | None:
    """How many NVIDIA devices this process may see; None if that cannot be known."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    return len(list(CARDS.iterdir())) if CARDS.is_dir() else None


@cache
def has_amx() -> bool:
    """Whether the CPU multiplies bfloat16 matrices in hardware."""
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def require(numerics: Numerics) -> None:
    """Raise an UnlearnError if torch cannot use the accelerator after all."""
    import torch

    available = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }[numerics.accelerator]
    if available == 0:
        raise UnlearnError(
            f"trainer.accelerator={numerics.accelerator}: torch finds no such device here; try trainer.accelerator=cpu"
        )
    if numerics.accelerator != "cpu" and numerics.devices > available:
        raise UnlearnError(f"trainer.devices={numerics.devices}: this machine has {available}")


@contextmanager
def float64_wanted(numerics: Numerics, stage: str) -> Iterator[None]:
    """Say what to set where a stage needs float64 (closed forms, some readings of weights) and the device has none."""
    try:
        yield
    except TypeError as error:
        if numerics.accelerator != "mps" or "float64" not in str(error):
            raise
        raise UnlearnError(
            f"{stage}: trainer.accelerator=mps has no float64, in which this is computed; set trainer.accelerator=cpu"
        ) from error
