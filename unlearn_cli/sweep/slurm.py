"""Hand a sweep to a SLURM cluster: shared stages as jobs of their own, runs as arrays that wait for them.

The jobs need nothing but the sweep's folder: a frozen copy of the code, the plan, and one line to call. Results are the
run folders, so a job that is killed hides no other, and whoever asks for the status needs no accounting data base.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from unlearn_cli.component import Count, Natural, component
from unlearn_cli.errors import UnlearnError

CODE, JOBS = "code", "jobs"
PACKAGE = Path(__file__).resolve().parent.parent


@component
class Slurm:
    """What a job may use, and how many run at a time."""

    kind: Literal["none", "sbatch"] = "none"
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    minutes: Count = 60
    memory_gb: Count = 8
    cpus: Count = 2
    gpus: Natural = 0
    nodes: Count = 1
    at_once: Count = 20
    restarts: Natural = 10
    grace: Annotated[int, Field(ge=10)] = 60
    lines: list[str] = Field(default_factory=list)
    setup: list[str] = Field(default_factory=list)
    wait: bool = False

    def options(self) -> list[str]:
        """The #SBATCH options of every job."""
        named = {"partition": self.partition, "account": self.account, "qos": self.qos}
        chosen = [f"--{name}={value}" for name, value in named.items() if value is not None]
        each = "gpus" if self.nodes == 1 else "gpus-per-node"
        gpus = [f"--{each}={self.gpus}"] if self.gpus else []
        # The job's own process is on the first node; it starts the ranks on all of them (training/launch.py).
        nodes = [f"--nodes={self.nodes}", "--ntasks-per-node=1"] if self.nodes > 1 else []
        return [
            *chosen,
            *gpus,
            *nodes,
            f"--time={self.minutes}",
            f"--mem={self.memory_gb}G",
            f"--cpus-per-task={self.cpus}",
            "--requeue",
            "--open-mode=append",
            f"--signal=B:USR1@{self.grace}",  # to the shell, which hands it on
            *self.lines,
        ]


@dataclass(frozen=True)
class Job:
    """One call of sbatch: `arguments` of `unlearn_cli.sweep.job`, or one for each number of an array."""

    name: str
    arguments: list[str]
    array: list[int] = field(default_factory=list)  # numbers, the last argument of each; empty: a single job
    after: list[str] = field(default_factory=list)  # ids of jobs that must have ended


def freeze(folder: Path, conf: Path) -> Path:
    """Copy the code and its configuration to where the jobs read them when they start; a copy that is there stays."""
    code = folder / CODE
    if not code.exists():
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(PACKAGE, code / PACKAGE.name, ignore=ignored)
        if conf.parent != PACKAGE:
            shutil.copytree(conf, code / "conf", ignore=ignored)
    return code


def submit(job: Job, folder: Path, slurm: Slurm, environment: Mapping[str, str]) -> str:
    """Write the job's script into the sweep's folder and hand it to sbatch; returns the job's id.

    Raises UnlearnError with what sbatch said.
    """
    place = folder / JOBS
    place.mkdir(exist_ok=True)
    path = place / f"{job.name}.sh"
    path.write_text(_script(job, folder, slurm, environment))
    command = ["sbatch", "--parsable", str(path)]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    except FileNotFoundError:
        raise UnlearnError(
            "slurm.kind=sbatch: there is no sbatch here; submit from a login node of the cluster"
        ) from None
    if told.returncode:
        raise UnlearnError(f"sbatch refused {path}: {(told.stderr or told.stdout).strip()}")
    return told.stdout.strip().partition(";")[0]


def _script(job: Job, folder: Path, slurm: Slurm, environment: Mapping[str, str]) -> str:
    """A shell script that an operator can read, and submit again by hand."""
    log = folder / JOBS / (f"{job.name}-%a.log" if job.array else f"{job.name}.log")
    options = [f"--job-name=unlearn-{job.name}", f"--output={log}", *slurm.options()]
    if job.array:
        options.append(f"--array={_ranges(job.array)}%{slurm.at_once}")
    if job.after:
        options.append(f"--dependency=afterany:{':'.join(job.after)}")
    number = ["${SLURM_ARRAY_TASK_ID}"] if job.array else []
    words = [sys.executable, "-m", "unlearn_cli.sweep.job", str(folder), *job.arguments]
    exports = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH {option}" for option in options),
            *exports,
            f"export UNLEARN_RESTARTS={slurm.restarts}",
            *slurm.setup,
            f"exec {' '.join([shlex.join(words), *number])}",
            "",
        ]
    )


def _ranges(numbers: Sequence[int]) -> str:
    """0-3,7 for 0, 1, 2, 3, 7."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)
