"""Where a result comes from: code, command, machine and package versions, gathered in milliseconds without imports."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from unlearn_cli import __version__
from unlearn_cli.machine import CARDS, cores

PACKAGES = ("torch", "lightning", "transformers", "tokenizers", "safetensors", "numpy", "hydra-core", "wandb")
GIT_SECONDS = 1.0  # git may hang on a network file system
PACKAGE = Path(__file__).resolve().parent


def collect(argv: Sequence[str]) -> dict[str, Any]:
    """Describe this process; what cannot be found out is null. Never raises."""
    commit, dirty = _attempt(lambda: checkout(PACKAGE.parent)) or (None, None)
    return {
        "unlearn": __version__,
        "commit": commit,
        "dirty": dirty,
        "argv": list(argv),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": _attempt(socket.gethostname),
        "platform": _attempt(platform.platform),
        "cpu": _attempt(_cpu),
        "cores": _attempt(cores),
        "gpus": _attempt(_gpus),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "slurm_job_id": os.environ.get("SLURM_JOB_ID"),
        "environment": {name: value for name, value in sorted(os.environ.items()) if name.startswith("UNLEARN_")},
    }


def checkout(root: Path) -> tuple[str, bool] | None:
    """Commit of the git checkout whose top is `root`, and whether code or configurations differ from it.

    None for an installed package, even if its environment lies inside some other project's checkout.
    """
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "status", "--porcelain=v2", "--branch", "--", PACKAGE.name, "conf"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    told = subprocess.run(
        command,
        env=clean | {"GIT_OPTIONAL_LOCKS": "0"},  # leaves the index alone, which other processes may be writing
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=GIT_SECONDS,
        check=True,
    ).stdout.splitlines()
    commit = next(line.split()[-1] for line in told if line.startswith("# branch.oid"))
    dirty = any(not line.startswith("#") for line in told)
    return None if commit == "(initial)" else (commit, dirty)


def _attempt(find: Callable[[], Any]) -> Any:
    with suppress(Exception):
        return find()
    return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu() -> str | None:
    with suppress(OSError), open("/proc/cpuinfo") as file:
        named = (line.partition(":")[2].strip() for line in file if line.startswith("model name"))
        return next(named, None) or platform.processor() or None
    return platform.processor() or None


def _gpus() -> list[str]:
    """Models of the NVIDIA cards, which the driver lists without CUDA being loaded."""
    found = sorted(CARDS.glob("*/information"))
    lines = [line for path in found for line in path.read_text().splitlines()]
    return [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
