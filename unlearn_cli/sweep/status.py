"""`unlearn status FOLDER`: what became of the runs of a sweep, also while it runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from unlearn_cli.check import check
from unlearn_cli.cli import say
from unlearn_cli.command import parse
from unlearn_cli.errors import EXIT_FAILED, EXIT_OK, ConfigError
from unlearn_cli.sweep.cluster import ORDERS, Orders, with_jobs
from unlearn_cli.sweep.command import summarize
from unlearn_cli.sweep.record import RESULT, Outcome, outcomes
from unlearn_cli.sweep.tracked import track


def main(argv: Sequence[str]) -> int:
    """Print the table; 0 if every run ended well. A cluster's sweep is logged when it is first seen to have ended."""
    parser = argparse.ArgumentParser(prog="unlearn status", description="What became of the runs of a sweep.")
    parser.add_argument("folder", type=Path, help="the sweep's folder, the last line that it printed")
    folder = parser.parse_args(list(argv)).folder.absolute()
    say(summarize(folder))
    found = with_jobs(folder, outcomes(folder))
    if not _is_logged(folder, found):
        _log(folder, found)
    return EXIT_OK if all(one.state == "ok" for one in found) else EXIT_FAILED


def _is_logged(folder: Path, found: Sequence[Outcome]) -> bool:
    """Whether W&B has the sweep as it is, or cannot have it yet; a sweep on this machine is logged by its command."""
    if not (folder / ORDERS).exists() or any(one.state in ("running", "waiting") for one in found):
        return True
    logged = max((path.stat().st_mtime for path in folder.glob("wandb/*run-*")), default=0.0)
    return logged > max((path.stat().st_mtime for path in folder.rglob(RESULT)), default=0.0)


def _log(folder: Path, found: Sequence[Outcome]) -> None:
    """Log the sweep as its first run says; what this needs may be gone by now, the table has been told anyway."""
    orders = Orders.read(folder)
    words = next(one.entry.overrides for one in found if not one.entry.refused)
    try:
        experiment = check(parse([*words, *orders.flags, "hydra.mode=RUN"], orders.conf)).cells[0].experiment
    except ConfigError as error:
        print(f"W&B gets no run of the sweep: {'; '.join(error.problems)}", file=sys.stderr)
        return
    if experiment is not None:
        track(folder, found, experiment, {})
