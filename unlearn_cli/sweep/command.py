"""`unlearn -m ...`: record the sweep, carry it out, and end in one table."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from unlearn_cli import provenance
from unlearn_cli.check import Cell, Sweep
from unlearn_cli.cli import say
from unlearn_cli.errors import EXIT_FAILED, EXIT_OK
from unlearn_cli.report.sweep_table import table
from unlearn_cli.sweep.collect import write_tidy
from unlearn_cli.sweep.local import LocalSweep
from unlearn_cli.sweep.progress import Progress
from unlearn_cli.sweep.record import Entry, outcomes, write


def carry_out(sweep: Sweep, cells: Sequence[Cell], flags: Sequence[str], conf: Path) -> int:
    """Carry out every run that is not refused; the summary goes to stdout, the folder is its last line."""
    entries = [
        Entry(number, cell.label, cell.overrides, cell.folder, list(cell.refused)) for number, cell in enumerate(cells)
    ]
    write(sweep.folder, entries, provenance.collect(sys.argv))
    experiments = {number: cell.experiment for number, cell in enumerate(cells) if cell.experiment}
    todo = [entry for entry in entries if not entry.refused]
    progress = Progress(len(todo), refused=len(entries) - len(todo))
    status = LocalSweep(sweep.folder, todo, experiments, flags, conf, progress).carry_out(sweep.parallel)
    say(summarize(sweep.folder))
    say(str(sweep.folder))
    return status if status != EXIT_OK or len(todo) == len(entries) else EXIT_FAILED


def summarize(folder: Path) -> str:
    """Write `sweep.csv` and `sweep.parquet`, and return the table of the runs."""
    found = outcomes(folder)
    write_tidy(found, folder)
    return table(found)
