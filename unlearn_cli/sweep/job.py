"""What a SLURM job calls: `python -m unlearn_cli.sweep.job FOLDER stage DIGEST` or `... FOLDER run NUMBER`.

Told that its time is up it saves, asks to be requeued, and goes on where it was when it starts again; the same after a
preemption, where the cluster requeues it by itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from unlearn_cli.errors import EXIT_FAILED, EXIT_OK, Interrupted, UnlearnError
from unlearn_cli.experiment import Experiment
from unlearn_cli.interrupts import interruptible
from unlearn_cli.sweep.cluster import Orders, failure_of
from unlearn_cli.sweep.record import HEARTBEAT, Entry, read, write_failure
from unlearn_cli.sweep.tasks import make_shared, run_cell

BEAT_SECONDS = 10.0
TIME_IS_UP = 128 + signal.SIGUSR1


def main(argv: Sequence[str]) -> int:
    """Carry out one stage or one run of the sweep in `argv[0]`, and return its exit status."""
    folder, what, which = Path(argv[0]), argv[1], argv[2]
    orders = Orders.read(folder)
    try:
        with interruptible(signal.SIGUSR1, signal.SIGTERM):
            status = _make(folder, orders, which) if what == "stage" else _run(folder, orders, int(which))
    except Interrupted as interrupted:
        status = interrupted.exit_status
    if status == TIME_IS_UP and int(os.environ.get("SLURM_RESTART_COUNT") or 0) < orders.restarts:
        array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
        job = f"{array}_{task}" if array else os.environ["SLURM_JOB_ID"]
        print(f"time is up: job {job} is requeued and goes on from here", flush=True)
        subprocess.run(["scontrol", "requeue", job], check=False)
    return status


def _make(folder: Path, orders: Orders, digest: str) -> int:
    """Make a shared stage; if that fails, leave word for what needs it."""
    stage, note = orders.stages[digest], failure_of(folder, digest)
    note.unlink(missing_ok=True)
    broken = [failure_of(folder, before) for before in stage.after if failure_of(folder, before).exists()]
    if broken:
        note.write_text(broken[0].read_text())
        return EXIT_FAILED
    status = make_shared(_experiment(orders, _entry(folder, stage.cell)), stage.stage, stage.member)
    if 0 < status <= 128:
        note.write_text(f"{stage.label} could not be made; {note.parent.name}/ has its log")
    return status


def _run(folder: Path, orders: Orders, number: int) -> int:
    entry = _entry(folder, number)
    for digest in orders.waits[number]:
        note = failure_of(folder, digest)
        if note.exists():
            write_failure(folder, entry, _experiment(orders, entry), "train", note.read_text())
            return EXIT_FAILED
    place = folder / entry.folder
    place.mkdir(parents=True, exist_ok=True)
    _beat(place / HEARTBEAT)
    try:
        status = run_cell(entry.overrides, orders.flags, orders.conf, place)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else EXIT_FAILED
    if status != EXIT_OK and status <= 128:
        write_failure(folder, entry, _experiment(orders, entry), None, f"its process ended with status {status}")
    return status


def _entry(folder: Path, number: int) -> Entry:
    return next(entry for entry in read(folder) if entry.number == number)


def _experiment(orders: Orders, entry: Entry) -> Experiment:
    """What the run's own words say."""
    from unlearn_cli.check import check
    from unlearn_cli.command import parse

    cell = check(parse([*entry.overrides, *orders.flags, "hydra.mode=RUN"], orders.conf)).cells[0]
    if cell.experiment is None:
        raise UnlearnError("; ".join(cell.refused))
    return cell.experiment


def _beat(path: Path) -> None:
    """Touch a file for as long as this process lives, for those who cannot ask the cluster."""

    def beat() -> None:
        while True:
            path.touch()
            stop.wait(BEAT_SECONDS)

    stop = threading.Event()
    threading.Thread(target=beat, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
