"""`unlearn -m ...`: record the sweep, carry it out, and end in one table."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from unlearn_cli import provenance
from unlearn_cli.check import Cell, Sweep
from unlearn_cli.cli import say
from unlearn_cli.errors import EXIT_FAILED, EXIT_OK
from unlearn_cli.report.sweep_table import table
from unlearn_cli.sweep.cluster import submit_all, with_jobs
from unlearn_cli.sweep.collect import write_tidy
from unlearn_cli.sweep.local import LocalSweep
from unlearn_cli.sweep.progress import Progress
from unlearn_cli.sweep.record import Entry, outcomes, write
from unlearn_cli.sweep.tracked import take_agent, track

POLL_SECONDS = 5.0


def carry_out(sweep: Sweep, cells: Sequence[Cell], flags: Sequence[str], conf: Path, tracked: bool = True) -> int:
    """Carry out every run that is not refused; the summary goes to stdout, the folder is its last line.

    `tracked`: whether the sweep as such is logged besides its runs.
    """
    entries = [
        Entry(number, cell.label, cell.overrides, cell.folder, list(cell.refused)) for number, cell in enumerate(cells)
    ]
    write(sweep.folder, entries, provenance.collect(sys.argv))
    experiments = {number: cell.experiment for number, cell in enumerate(cells) if cell.experiment}
    agent = take_agent()
    todo = [entry for entry in entries if not entry.refused]
    if sweep.slurm.kind == "sbatch":
        jobs = submit_all(sweep.folder, todo, experiments, flags, conf, sweep.slurm)
        print(_submitted(jobs, len(todo)), file=sys.stderr)
        print(f"unlearn status {shlex.quote(str(sweep.folder))} says what became of them", file=sys.stderr)
        status = wait(sweep.folder) if sweep.slurm.wait else EXIT_OK
    else:
        progress = Progress(len(todo), refused=len(entries) - len(todo))
        status = LocalSweep(sweep.folder, todo, experiments, flags, conf, progress).carry_out(sweep.parallel)
    if sweep.slurm.kind == "none" or sweep.slurm.wait:
        say(summarize(sweep.folder))
        if tracked:
            found = with_jobs(sweep.folder, outcomes(sweep.folder))
            track(sweep.folder, found, next(iter(experiments.values())), agent)
    say(str(sweep.folder))
    return status if status != EXIT_OK or len(todo) == len(entries) else EXIT_FAILED


def _submitted(jobs: Mapping[int, str], runs: int) -> str:
    """What was handed to the cluster, for people."""
    kept = f"; {runs - len(jobs)} ended well before or have a job" if len(jobs) < runs else ""
    arrays = sorted({int(job.partition("_")[0]) for job in jobs.values()})
    names = f" as job {', '.join(map(str, arrays))}" if arrays else ""
    return f"{len(jobs)} of {runs} runs submitted{names}{kept}"


def wait(folder: Path) -> int:
    """Stay until every run has ended; 1 if one did not end well."""
    while any(found.state in ("running", "waiting") for found in with_jobs(folder, outcomes(folder))):
        time.sleep(POLL_SECONDS)
    ended = with_jobs(folder, outcomes(folder))
    return EXIT_OK if all(found.state in ("ok", "refused") for found in ended) else EXIT_FAILED


def summarize(folder: Path) -> str:
    """Write `sweep.csv` and `sweep.parquet`, and return the table of the runs."""
    found = with_jobs(folder, outcomes(folder))
    write_tidy(found, folder)
    return table(found)
