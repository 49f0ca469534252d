"""Gather finished runs into one tidy table: `python scripts/collect.py runs/... [--to table.csv|table.parquet]`.

One row for each run, metric and split, with intervals, base's and gold's values, seeds, commits and digests. Results of
another schema version are refused; runs that failed, were refused or are missing keep a row with the reason. Results of
OpenUnlearning (`*_EVAL.json`, `*_SUMMARY.json`) under the folders are read, too: their `source` is `openunlearning`.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from unlearn_cli.errors import UnlearnError
from unlearn_cli.exchange.open_unlearning import read_rows
from unlearn_cli.sweep.collect import read_runs, tidy


def main() -> int:
    """Write the table, and say on stderr what a reader of it must know."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="run folders, sweeps, or folders above them")
    parser.add_argument("--to", type=Path, default=Path("runs.csv"), help="file to write: .csv or .parquet")
    given = parser.parse_args()
    try:
        return collect(given.folders, given.to)
    except UnlearnError as error:
        print(error, file=sys.stderr)
        return 1


def collect(folders: list[Path], to: Path) -> int:
    """Write the table of all runs under `folders`."""
    from pyarrow import csv, parquet

    if to.suffix not in (".csv", ".parquet"):
        raise UnlearnError(f"--to: {to} given; expected a name that ends in .csv or .parquet")
    found, others = read_runs(folders), read_rows(folders)
    if not found and not others:
        raise UnlearnError(f"no run under {', '.join(map(str, folders))}")
    table = tidy(found, others)
    (csv.write_csv if to.suffix == ".csv" else parquet.write_table)(table, to)
    for outcome in found:
        if outcome.state != "ok":
            print(f"{outcome.state}: {outcome.entry.label}: {outcome.error or 'no result'}", file=sys.stderr)
    for row in others:
        if row["state"] != "ok" or row["status"] != "ok":
            print(f"{row['state']}: {row['label']}: {row.get('error') or row['reason']}", file=sys.stderr)
    for warning in mixtures(found):
        print(warning, file=sys.stderr)
    print(to)
    return 0


def mixtures(found: list) -> list[str]:
    """What should not stand in one table unnoticed: several commits, changed checkouts."""
    results = [outcome.result for outcome in found if outcome.result is not None]
    commits = Counter(str(result.provenance.get("commit")) for result in results)
    dirty = sum(bool(result.provenance.get("dirty")) for result in results)
    said = [f"{len(commits)} commits: " + ", ".join(f"{commit[:10]} ({n} runs)" for commit, n in commits.items())]
    told = said if len(commits) > 1 else []
    return [*told, f"{dirty} runs are of a checkout with changes that no commit has"] if dirty else told


if __name__ == "__main__":
    sys.exit(main())
