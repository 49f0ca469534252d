"""What the cache is asked for, a stage, and what it gives, an artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unlearn_cli.cache.canonical import canonical_sha256

STAGES = ("train", "gold", "corrupt", "prepare", "edit", "shadow", "predict", "observe", "evaluate")
DIGEST_LENGTH = 16  # hex digits


@dataclass(frozen=True)
class Stage:
    """One step of a run: `name` out of `STAGES`, and in `inputs` everything that determines its result, bit for bit.

    `label` makes the folder's name readable and never enters the digest.
    """

    name: str
    label: str
    inputs: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.name not in STAGES:
            raise ValueError(f"unknown stage {self.name!r}: not one of {', '.join(STAGES)}")

    @property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of the canonical JSON of name and inputs."""
        return canonical_sha256({"stage": self.name, "inputs": self.inputs})[:DIGEST_LENGTH]


@dataclass(frozen=True)
class Artifact:
    """A complete, verified artifact. `cached`: this call did not compute it."""

    path: Path
    cached: bool
    manifest: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """That of the stage, in 16 hex digits."""
        return str(self.manifest["digest"])

    @property
    def seconds(self) -> float:
        """Wall time of the last attempt of the computation that made it."""
        return float(self.manifest["seconds"])

    @property
    def peak_memory_bytes(self) -> int | None:
        """Peak memory of the computation that made it."""
        peak: int | None = self.manifest["peak_memory_bytes"]
        return peak
