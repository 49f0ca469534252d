"""A sweep on a cluster: submit it, detached, and find out later what became of its jobs."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from unlearn_cli.experiment import Experiment
from unlearn_cli.sweep.plan import Plan, Shared, plan
from unlearn_cli.sweep.record import HEARTBEAT, Entry, Outcome, forget, outcome
from unlearn_cli.sweep.slurm import JOBS, Job, Slurm, freeze, submit
from unlearn_cli.sweep.tasks import MULTIRUN

ORDERS, SUBMITTED = "orders.json", "jobs.json"
STALE_SECONDS = 120.0  # a heartbeat older than that has stopped
FRESH_SECONDS = 30.0  # one younger than that is believed before the queue: results are looked for before it is asked
LOST = "its job ended without a result: killed, out of memory, or the node failed"


@dataclass(frozen=True)
class Orders:
    """What every job of a sweep reads."""

    flags: list[str]
    conf: Path  # of the frozen copy
    stages: dict[str, Shared]  # by digest
    waits: dict[int, list[str]]  # number of a run -> digests of the stages that it needs
    restarts: int

    def write(self, folder: Path) -> None:
        """Beside the plan."""
        told = asdict(self) | {"conf": str(self.conf)}
        _write(folder / ORDERS, told)

    @classmethod
    def read(cls, folder: Path) -> Orders:
        """What `write` wrote."""
        told: dict[str, Any] = json.loads((folder / ORDERS).read_text())
        stages = {digest: Shared(**stage) for digest, stage in told["stages"].items()}
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
) -> dict[int, str]:
    """Submit every run that has neither ended well nor a job, behind the stages that runs share.

    Returns the job of each run submitted.
    """
    code = freeze(folder, conf)
    alive = _alive(folder)
    todo = [entry for entry in entries if str(entry.number) not in alive and outcome(folder, entry).state != "ok"]
    for entry in todo:
        forget(folder / entry.folder)
        (folder / entry.folder / HEARTBEAT).unlink(missing_ok=True)
    found = plan({entry.number: experiments[entry.number] for entry in todo})
    kept = [flag for flag in flags if flag not in MULTIRUN]
    frozen = code / "conf" if (code / "conf").exists() else code / "unlearn_cli" / "conf"
    waits = {number: sorted(digests) for number, digests in found.waits.items()}
    stages = {stage.digest: stage for stage in found.shared}
    if alive:  # their jobs read the orders when they start
        before = Orders.read(folder)
        waits, stages = before.waits | waits, before.stages | stages
    Orders(kept, frozen, stages, waits, slurm.restarts).write(folder)
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, [str(code), os.environ.get("PYTHONPATH", "")]))}
    environment |= {name: value for name, value in sorted(os.environ.items()) if name.startswith("UNLEARN_")}
    return _submit(folder, todo, found, alive, slurm, environment)


def _submit(
    folder: Path,
    todo: Sequence[Entry],
    found: Plan,
    alive: Mapping[str, str],
    slurm: Slurm,
    environment: Mapping[str, str],
) -> dict[int, str]:
    """Stages first, then one array for each set of stages that runs wait for. Ids are noted as they are given."""
    ids, runs = dict(alive), dict[int, str]()
    for stage in found.shared:
        if stage.digest not in ids:
            after = sorted(ids[digest] for digest in stage.after)
            job = Job(f"stage-{stage.digest}", ["stage", stage.digest], after=after)
            ids[stage.digest] = submit(job, folder, slurm, environment)
    groups: dict[frozenset[str], list[int]] = defaultdict(list)
    for entry in todo:
        groups[found.waits[entry.number]].append(entry.number)
    for number, (digests, numbers) in enumerate(groups.items()):
        after = sorted(ids[digest] for digest in digests)
        array = submit(Job(f"runs-{number}", ["run"], numbers, after), folder, slurm, environment)
        runs |= {number: f"{array}_{number}" for number in numbers}
        _write(folder / SUBMITTED, ids | {str(number): job for number, job in runs.items()})
    return runs


def _write(path: Path, content: Mapping[str, Any]) -> None:
    """Whole or not at all: jobs of an earlier submission may be reading."""
    draft = path.with_name(f".{path.name}")
    draft.write_text(json.dumps(content, indent=1) + "\n")
    draft.replace(path)


def _alive(folder: Path) -> dict[str, str]:
    """The jobs of an earlier submission that have not ended, by the stage or the run that they are for."""
    ids = _submitted(folder)
    queue = _queue(ids.values()) or {}
    return {what: job for what, job in ids.items() if job in queue}


def _submitted(folder: Path) -> dict[str, str]:
    """The job of each stage and run, by its digest or number."""
    path = folder / SUBMITTED
    return dict(json.loads(path.read_text())) if path.exists() else {}


def with_jobs(folder: Path, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The same, with what the cluster says of the runs that left no result, or were interrupted."""
    ids = _submitted(folder)
    if not ids:
        return list(outcomes)
    queue = _queue(ids.values())
    return [_seen(folder, found, ids.get(str(found.entry.number)), queue) for found in outcomes]


def _seen(folder: Path, found: Outcome, job: str | None, queue: Mapping[str, str] | None) -> Outcome:
    if job is None or found.state not in ("interrupted", "running", "waiting"):
        return found
    beat = folder / found.entry.folder / HEARTBEAT
    if queue is None:  # nobody to ask: a job that runs touches its heartbeat
        if not beat.exists():
            return replace(found, state="waiting", error="")
        alive = _age(beat) < STALE_SECONDS
        return replace(found, state="running", error="") if alive else replace(found, state="failed", error=LOST)
    if job in queue:
        return replace(found, state="waiting" if queue[job] == "PENDING" else "running", error="")
    if found.state == "interrupted":
        return found
    if beat.exists() and _age(beat) < FRESH_SECONDS:
        return replace(found, state="running", error="")
    return replace(found, state="failed", error=LOST)


def _age(path: Path) -> float:
    """Seconds since it was touched."""
    return time.time() - path.stat().st_mtime


def _queue(jobs: Iterable[str]) -> dict[str, str] | None:
    """State of each job and array task that has not ended; None if the cluster cannot be asked."""
    wanted = sorted({job.partition("_")[0] for job in jobs})
    if not wanted:
        return {}
    command = ["squeue", "--noheader", "--array", "--format=%i %T", f"--jobs={','.join(wanted)}"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if told.returncode and "Invalid job id" not in told.stderr:
        return None
    ended = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL")
    rows = (line.split() for line in told.stdout.splitlines() if line.strip())
    return {row[0]: row[1] for row in rows if row[1] not in ended}
