"""KLoM of methods over replicas: `python scripts/klom.py runs/sweeps/klom... --to DIR`.

Reads runs of one world that differ in their replica and method (conf/experiment/klom.yaml), whose cache is still there.
Writes klom.md, .tex and .csv, and prints the first: on the forget, retain/unseen and holdout probes, how far margins of
N edited models lie from those of N gold ones, with gold against gold as the floor and the base as the ceiling.
What it means, and when it misleads: docs/metrics/curves.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

from unlearn_cli.analysis.klom import FEW
from unlearn_cli.analysis.replicas import Bench, Line, benches, lines
from unlearn_cli.analysis.runs import one_schema, sorted_runs
from unlearn_cli.analysis.tables import Table, Text, number, write_csv, write_tables
from unlearn_cli.errors import UnlearnError
from unlearn_cli.sweep.collect import read_runs

HEADS = ("split", "models", "n", "points", "mean", "median", "p95")


def main() -> int:
    """Write the tables, and say on stderr what was left out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="sweeps, run folders, or folders above them")
    parser.add_argument("--to", type=Path, required=True, help="folder to write; made if absent")
    given = parser.parse_args()
    try:
        one_schema(given.folders)
        runs, left = sorted_runs(read_runs(given.folders))
        for line in left:
            print(f"left out: {line}", file=sys.stderr)
        if not runs:
            raise UnlearnError(f"no finished run under {', '.join(map(str, given.folders))}")
        found = [(bench, lines(bench)) for bench in benches(runs)]
    except UnlearnError as error:
        print(error, file=sys.stderr)
        return 1
    given.to.mkdir(parents=True, exist_ok=True)
    tables = [table(bench, told) for bench, told in found]
    write_tables(tables, given.to / "klom")
    write_csv(
        ["bench", *HEADS],
        [[bench.name, *astuple(line)] for bench, told in found for line in told],
        given.to / "klom.csv",
    )
    print("\n".join(item.markdown() for item in tables))
    return 0


def table(bench: Bench, told: Sequence[Line]) -> Table:
    """The lines of one bench, in the order in which they stand."""
    rows = [[Text(str(x)) for x in astuple(line)[:4]] + [Text(number(x)) for x in astuple(line)[4:]] for line in told]
    notes = [
        "Nats; lower is nearer to gold. n models against n gold ones; other gold ones against these are the floor."
    ]
    if told and told[0].n < FEW:
        notes.append(
            f"With fewer than {FEW} models on a side most of a number is noise of the bins: compare with the floor."
        )
    return Table(f"KLoM: {bench.name}", HEADS, rows, notes)


if __name__ == "__main__":
    sys.exit(main())
