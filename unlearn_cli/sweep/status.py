"""`unlearn status FOLDER`: what became of the runs of a sweep, also while it runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from unlearn_cli.cli import say
from unlearn_cli.errors import EXIT_FAILED, EXIT_OK
from unlearn_cli.sweep.cluster import with_jobs
from unlearn_cli.sweep.command import summarize
from unlearn_cli.sweep.record import outcomes


def main(argv: Sequence[str]) -> int:
    """Print the table; 0 if every run ended well."""
    parser = argparse.ArgumentParser(prog="unlearn status", description="What became of the runs of a sweep.")
    parser.add_argument("folder", type=Path, help="the sweep's folder, the last line that it printed")
    folder = parser.parse_args(list(argv)).folder
    say(summarize(folder))
    return EXIT_OK if all(found.state == "ok" for found in with_jobs(folder, outcomes(folder))) else EXIT_FAILED
