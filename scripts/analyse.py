"""Compare methods over finished runs: `python scripts/analyse.py runs/sweeps/... --to DIR`.

Each as .md, .tex and .csv in DIR: `methods` (mean over seeds with its interval; the best of a column in bold, as is
what is not shown to differ from it); `fronts` and the figures pareto-* where a method was run with several strengths;
`growth` and growth-* where requests of several sizes were; `leaderboard` where its parts were measured; `paths` where
scripts/path_curves.py left path.csv in a run. What each number means: docs/metrics/curves.md. Figures, SVG and PNG,
need matplotlib: `pip install 'unlearn-cli[figures]'`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from unlearn_cli.analysis import pages, special_pages
from unlearn_cli.analysis.fronts import KNOWLEDGE, UTILITY, Axes
from unlearn_cli.analysis.runs import Run, duplicates, one_schema, sorted_runs
from unlearn_cli.errors import UnlearnError
from unlearn_cli.sweep.collect import read_runs

COLUMNS = (
    "fact_accuracy/forget",
    "fact_accuracy/edited",
    "fact_accuracy/edited_para",
    "answer_probability/forget",
    "fact_accuracy/retain/unseen",
    "fact_accuracy/same_subject/unseen",
    "relearn_few_forget/excess",
    "quantization_4/excess",
    "cost/seconds",
)


def main() -> int:
    """Write everything, and say on stderr what was left out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="sweeps, run folders, or folders above them")
    parser.add_argument("--to", type=Path, required=True, help="folder to write; made if absent")
    parser.add_argument("--columns", nargs="+", default=COLUMNS, metavar="METRIC", help="keys of result.json")
    parser.add_argument("--forget", default=KNOWLEDGE, metavar="METRIC", help=f"knowledge to remove; {KNOWLEDGE}")
    parser.add_argument("--utility", default=UTILITY, metavar="METRIC", help=f"what is to stay; {UTILITY}")
    parser.add_argument("--collapsed", type=float, default=0.0, help="utility of a model that lost everything; 0")
    parser.add_argument("--no-figures", action="store_true", help="tables alone")
    given = parser.parse_args()
    try:
        runs = read(given.folders)
        given.to.mkdir(parents=True, exist_ok=True)
        pages.methods(runs, given.columns, given.to)
        pages.pareto(runs, Axes(given.forget, given.utility, given.collapsed), given.to, not given.no_figures)
        special_pages.grown(runs, (given.forget, given.utility), given.to, not given.no_figures)
        special_pages.ranked(runs, given.to)
        special_pages.paths(runs, given.forget, given.utility, given.to)
    except UnlearnError as error:
        print(error, file=sys.stderr)
        return 1
    print(given.to)
    return 0


def read(folders: Sequence[Path]) -> list[Run]:
    """All finished runs; UnlearnError where they must not stand in one table."""
    one_schema(folders)
    runs, left = sorted_runs(read_runs(folders))
    for line in left:
        print(f"left out: {line}", file=sys.stderr)
    if not runs:
        raise UnlearnError(f"no finished run under {', '.join(map(str, folders))}")
    if twice := duplicates(runs):
        raise UnlearnError("the same run more than once, or replicas (scripts/klom.py): " + "; ".join(twice))
    return runs


if __name__ == "__main__":
    sys.exit(main())
