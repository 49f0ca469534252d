"""Do interpretability tools see a hidden rule? `python scripts/pando.py runs/sweeps/pando... --to DIR`.

Reads runs on rules worlds with the Pando metrics (conf/experiment/pando.yaml), whose cache is still there; their bases
are the model organisms. Writes pando.md, .tex and .csv, and prints the first: for each explanation and depth, what
agents predict with and without a tool, which fields they name, and what the tools' scores show, as means over models
with 90 % t intervals. What it means, and when it misleads: docs/metrics/pando.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from unlearn_cli.analysis.pando import Organism, mean_auc, organisms, variance
from unlearn_cli.analysis.runs import one_schema, sorted_runs
from unlearn_cli.analysis.seeds import Summary, summarize
from unlearn_cli.analysis.tables import Table, Text, number, numbers, shown, write_csv, write_tables
from unlearn_cli.errors import UnlearnError
from unlearn_cli.observations.field_scores import TOOLS
from unlearn_cli.sweep.collect import read_runs

LEVEL = 0.9
METRICS = {
    "pando_heldout_accuracy": "held-out accuracy",
    "pando_field_f1": "fields of the rule",
    "pando_signal": "signal within a model",
}
COLUMNS = ("scenario", "explanation", "depth", "table", "row", "mean", "low", "high", "sd", "models")

Cells = Mapping[tuple[str, str], Sequence[Organism]]  # by explanation and depth, "all" depths together
Cell = tuple[Text, list[float | int | None]]  # as shown, and in full
Rows = dict[str, Callable[[Sequence[Organism]], Cell]]


def main() -> int:
    """Write the tables, and say on stderr what was left out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="sweeps, run folders, or folders above them")
    parser.add_argument("--to", type=Path, required=True, help="folder to write; made if absent")
    parser.add_argument(
        "--min-follows",
        type=float,
        default=0.95,
        help="share of reserved records on which a model must follow its rule",
    )
    given = parser.parse_args()
    try:
        one_schema(given.folders)
        runs, left = sorted_runs(read_runs(given.folders))
        found = organisms(runs)
        kept = [one for one in found if one.follows >= given.min_follows]
        left += [
            f"follows its rule on {one.follows:.3f}: {one.run.place} seed={one.run.seed}"
            for one in set(found) - set(kept)
        ]
        for line in left:
            print(f"left out: {line}", file=sys.stderr)
        if not kept:
            raise UnlearnError(f"no model that follows a hidden rule under {', '.join(map(str, given.folders))}")
    except UnlearnError as error:
        print(error, file=sys.stderr)
        return 1
    write(kept, given.to)
    return 0


def write(found: Sequence[Organism], to: Path) -> None:
    """`pando.md`, `.tex`, `.csv`; the first is printed, too."""
    tables, lines = [], []
    for scenario in sorted({one.scenario for one in found}):
        of_scenario = cells([one for one in found if one.scenario == scenario])
        whole = {cell: members for cell, members in of_scenario.items() if cell[1] != "all"}
        for title, rows, columns in (
            *((t, r, whole) for t, r in averages(found)),
            ("signal over models", signals(), of_scenario),
        ):
            made = {name: [read(members) for members in columns.values()] for name, read in rows.items()}
            tables.append(_table(f"{scenario}: {title}", columns, made))
            lines += [
                [scenario, *cell, title, name, *full]
                for name, read in made.items()
                for cell, (_, full) in zip(columns, read, strict=True)
            ]
    to.mkdir(parents=True, exist_ok=True)
    write_tables(tables, to / "pando")
    write_csv(COLUMNS, lines, to / "pando.csv")
    print("\n".join(table.markdown() for table in tables))


def cells(found: Sequence[Organism]) -> Cells:
    """By explanation and depth, then all depths of an explanation."""
    made: dict[tuple[str, str], list[Organism]] = {}
    for one in sorted(found, key=lambda one: (one.explanation, one.depth)):
        made.setdefault((one.explanation, str(one.depth)), []).append(one)
    for one in found:
        made.setdefault((one.explanation, "all"), []).append(one)
    return made


def averages(found: Sequence[Organism]) -> list[tuple[str, Rows]]:
    """A table for each metric that gives a number for every model: its keys, and the mean over models."""
    tables = []
    for metric, title in METRICS.items():
        keys = dict.fromkeys(key for one in found for key in one.run.result.metrics if key.startswith(f"{metric}/"))
        tables.append((title, {key.removeprefix(f"{metric}/"): _averaging(key) for key in keys}))
    return tables


def signals() -> Rows:
    """What takes many models."""
    rows: Rows = {}
    for tool in TOOLS:
        rows[f"{tool}: AUC"] = _area(tool)
        for part in ("field", "value", "in_rule"):
            rows[f"{tool}: R² {part}"] = _part(tool, part)
    return rows


def _averaging(key: str) -> Callable[[Sequence[Organism]], Cell]:
    def read(members: Sequence[Organism]) -> Cell:
        values = [value for one in members if (value := one.value(key)) is not None]
        summary: Summary | None = summarize(values, LEVEL) if values else None
        return Text(shown(summary)), numbers(summary) if summary else [None] * 5

    return read


def _area(tool: str) -> Callable[[Sequence[Organism]], Cell]:
    return lambda members: _plain(mean_auc([one.task for one in members], tool), members)


def _part(tool: str, part: str) -> Callable[[Sequence[Organism]], Cell]:
    def read(members: Sequence[Organism]) -> Cell:
        found = variance([one.task for one in members], tool)
        return _plain(None if found is None else asdict(found)[part], members)

    return read


def _plain(value: float | None, members: Sequence[Organism]) -> Cell:
    return Text("-" if value is None else number(value)), [value, None, None, None, len(members)]


def _table(title: str, columns: Cells, made: Mapping[str, Sequence[Cell]]) -> Table:
    heads = ["", *(f"{explanation} d={depth} (n={len(members)})" for (explanation, depth), members in columns.items())]
    rows = [[Text(name), *(text for text, _ in read)] for name, read in made.items()]
    notes = ["n models; mean ± half-width of the 90 % t interval over models; - where it is not defined."]
    return Table(title, heads, rows, notes)


if __name__ == "__main__":
    sys.exit(main())
