"""A sweep on a cluster: submit it, detached, and find out later what became of its jobs."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from unlearn_cli.experiment import Experiment
from unlearn_cli.sweep.plan import Plan, Shared, plan
from unlearn_cli.sweep.record import HEARTBEAT, RESULT, Entry, Outcome
from unlearn_cli.sweep.slurm import JOBS, Job, Slurm, freeze, submit
from unlearn_cli.sweep.tasks import MULTIRUN

ORDERS, SUBMITTED = "orders.json", "jobs.json"
STALE_SECONDS = 120.0  # a heartbeat older than that has stopped
LOST = "its job ended without a result: killed, out of memory, or the node failed"


@dataclass(frozen=True)
class Orders:
    """What every job of a sweep reads."""

    flags: list[str]
    conf: Path  # of the frozen copy
    stages: list[Shared]
    waits: Mapping[int, list[str]]  # number of a run -> digests of the stages that it needs
    restarts: int

    def write(self, folder: Path) -> None:
        """Beside the plan."""
        told = asdict(self) | {"conf": str(self.conf)}
        (folder / ORDERS).write_text(json.dumps(told, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Orders:
        """What `write` wrote."""
        told: dict[str, Any] = json.loads((folder / ORDERS).read_text())
        stages = [Shared(**stage) for stage in told["stages"]]
        waits = {int(number): digests for number, digests in told["waits"].items()}
        return cls(told["flags"], Path(told["conf"]), stages, waits, told["restarts"])


def failure_of(folder: Path, digest: str) -> Path:
    """Where a job leaves word that a shared stage could not be made."""
    return folder / JOBS / f"{digest}.failed"


def submit_all(
    folder: Path,
    entries: Sequence[Entry],
    experiments: Mapping[int, Experiment],
    flags: Sequence[str],
    conf: Path,
    slurm: Slurm,
) -> list[str]:
    """Submit every run that has not ended well yet, behind the stages that runs share; returns the jobs' ids."""
    code = freeze(folder, conf)
    todo = [entry for entry in entries if not _well(folder, entry)]
    found = plan({entry.number: experiments[entry.number] for entry in todo})
    kept = [flag for flag in flags if flag not in MULTIRUN]
    frozen = code / "conf" if (code / "conf").exists() else code / "unlearn_cli" / "conf"
    waits = {number: sorted(digests) for number, digests in found.waits.items()}
    Orders(kept, frozen, list(found.shared), waits, slurm.restarts).write(folder)
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, [str(code), os.environ.get("PYTHONPATH", "")]))}
    environment |= {name: value for name, value in sorted(os.environ.items()) if name.startswith("UNLEARN_")}
    ids = _submit(folder, todo, found, slurm, environment)
    return sorted({job.partition("_")[0] for job in ids.values()})


def _submit(
    folder: Path, todo: Sequence[Entry], found: Plan, slurm: Slurm, environment: Mapping[str, str]
) -> dict[str, str]:
    """Stages first, then one array for each set of stages that runs wait for. Ids are noted as they are given."""
    ids: dict[str, str] = {}
    for number, stage in enumerate(found.shared):
        job = Job(f"stage-{number}-{stage.digest}", ["stage", str(number)])
        ids[stage.digest] = submit(job, folder, slurm, environment)
    groups: dict[frozenset[str], list[int]] = defaultdict(list)
    for entry in todo:
        groups[found.waits[entry.number]].append(entry.number)
    for number, (digests, numbers) in enumerate(groups.items()):
        after = sorted(ids[digest] for digest in digests)
        array = submit(Job(f"runs-{number}", ["run"], numbers, after), folder, slurm, environment)
        ids |= {str(n): f"{array}_{n}" for n in numbers}
        (folder / SUBMITTED).write_text(json.dumps(ids, indent=1) + "\n")
    return ids


def _well(folder: Path, entry: Entry) -> bool:
    path = folder / entry.folder / RESULT
    return path.exists() and json.loads(path.read_text()).get("status") == "ok"


def with_jobs(folder: Path, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The same, with what the cluster says of the runs that left no result, or were interrupted."""
    if not (folder / SUBMITTED).exists():
        return list(outcomes)
    ids: dict[str, str] = json.loads((folder / SUBMITTED).read_text())
    queue = _queue(sorted({job.partition("_")[0] for job in ids.values()}))
    return [_seen(folder, found, ids.get(str(found.entry.number)), queue) for found in outcomes]


def _seen(folder: Path, found: Outcome, job: str | None, queue: Mapping[str, str] | None) -> Outcome:
    if job is None or found.state not in ("interrupted", "running", "waiting"):
        return found
    if queue is None:  # nobody to ask: a job that runs touches its heartbeat
        beat = folder / found.entry.folder / HEARTBEAT
        alive = beat.exists() and time.time() - beat.stat().st_mtime < STALE_SECONDS
        if alive or not beat.exists():
            return replace(found, state="running" if alive else "waiting", error="")
        return replace(found, state="failed", error=LOST)
    state = queue.get(job)
    if state is None:
        lost = found.state != "interrupted"
        return replace(found, state="failed", error=LOST) if lost else found
    return replace(found, state="waiting" if state == "PENDING" else "running", error="")


def _queue(jobs: Sequence[str]) -> dict[str, str] | None:
    """State of each job and array task that has not ended; None if the cluster cannot be asked."""
    command = ["squeue", "--noheader", "--array", "--format=%i %T", f"--jobs={','.join(jobs)}"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if told.returncode and "Invalid job id" not in told.stderr:
        return None
    ended = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL")
    rows = (line.split() for line in told.stdout.splitlines() if line.strip())
    return {row[0]: row[1] for row in rows if row[1] not in ended}
