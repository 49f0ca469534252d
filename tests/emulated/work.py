"""Carries out runs; reads a JSON list of the words of each from stdin, writes a line of JSON for each.

`gpu`: on the emulated device. `cpu`: on the CPU, in the same arithmetic. `autocast`: there, in what GPUs train in. A
process of its own, since torch then knows one device more.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from device import DEVICE, NAME, emulated
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch.nn.attention import SDPBackend, sdpa_kernel

from unlearn_cli import machine
from unlearn_cli.cli import config_dir


class Lightnings(Accelerator):
    """The device, as a Trainer asks about one."""

    def setup_device(self, device: Any) -> None:
        pass

    def teardown(self) -> None:
        pass

    def get_device_stats(self, device: Any) -> dict[str, Any]:
        return {}

    @staticmethod
    def parse_devices(devices: Any) -> Any:
        return [DEVICE]

    @staticmethod
    def get_parallel_devices(devices: Any) -> Any:
        return devices

    @staticmethod
    def auto_device_count() -> int:
        return 1

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def name() -> str:
        return NAME


def offer() -> None:
    """Have every stage computed on the device; to be called before what trains is imported."""
    resolve = machine.resolve
    machine.resolve = lambda *args, **named: replace(resolve(*args, **named), accelerator=NAME)
    machine.require = lambda numerics: None
    # Beside it the CPU stands for a second one: blocks lie on both, and what mixes them fails as between two GPUs.
    machine.Numerics.places = property(lambda numerics: [NAME, "cpu"] if numerics.spread else [NAME])
    from unlearn_cli.training import placement

    placement.placed = lambda numerics, crew: {
        "accelerator": Lightnings(),
        "devices": 1,
        "strategy": (placement._InPlace if numerics.spread else SingleDeviceStrategy)(device=DEVICE),
    }


def autocast() -> None:
    """Have every loop trained in bf16 as on a GPU; the CPU casts in nearly the same operations."""
    from unlearn_cli.training import loop

    loop.precision_of = lambda numerics: "bf16-mixed"


def outcome(words: list[str], folder: Path) -> dict[str, Any]:
    """Status, error and values of the metrics of one run."""
    from unlearn_cli.check import check
    from unlearn_cli.command import parse
    from unlearn_cli.errors import ConfigError
    from unlearn_cli.pipeline import run

    places = [f"paths.cache={folder}/cache", f"paths.runs={folder}/runs"]
    try:
        (cell,) = check(parse([*words, *places], config_dir())).cells
    except ConfigError as refused:
        return {"status": "refused", "error": str(refused), "metrics": {}}
    result = run(cell.experiment)
    found = {name: [entry["status"], entry.get("value")] for name, entry in result.metrics.items()}
    return {"status": result.status, "error": result.error, "metrics": found}


def main(place: str, folder: str) -> None:
    asked = json.load(sys.stdin)
    {NAME: offer, "autocast": autocast, "cpu": lambda: None}[place]()
    with emulated() if place == NAME else sdpa_kernel(SDPBackend.MATH):
        for words in asked:
            print(json.dumps(outcome(words, Path(folder))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
