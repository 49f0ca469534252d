"""What scripts/analyse.py writes of any sweep: the table of methods, and their fronts."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from unlearn_cli.analysis import compare, figures
from unlearn_cli.analysis.fronts import ADVISED, Axes, Front, fronts
from unlearn_cli.analysis.runs import Run, grouped
from unlearn_cli.analysis.tables import SUMMARY, Table, Text, number, numbers, shown, slug, write_csv, write_tables

ARROWS = {"higher": "↑", "lower": "↓", "to_gold": "→gold", "descriptive": ""}


def methods(runs: Sequence[Run], columns: Sequence[str], to: Path) -> None:
    """A table for each bench: a row for each method and setting."""
    benches = grouped(runs, lambda run: run.place)
    tables, rows = [], []
    for place, members in benches.items():
        found = {key: compare.column(grouped(members, lambda run: run.row), key) for key in columns}
        known = {key: cells for key, cells in found.items() if cells}
        tables.append(_methods(place, members, known))
        rows += [
            [place, row, key, *numbers(cell.summary), cell.best, cell.p, cell.paired]
            for key, cells in known.items()
            for row, cell in cells.items()
        ]
    write_tables(tables, to / "methods")
    write_csv(["bench", "row", "metric", *SUMMARY, "best", "p", "paired"], rows, to / "methods.csv")


def _methods(place: str, runs: Sequence[Run], columns: Mapping[str, compare.Column]) -> Table:
    rows = []
    for role in ("base", "gold"):
        summaries = [compare.reference(runs, key, role) for key in columns]
        rows.append([Text(role), Text(str(len({run.seed for run in runs}))), *(Text(shown(s)) for s in summaries)])
    for row, members in grouped(runs, lambda run: run.row).items():
        cells = [column.get(row) for column in columns.values()]
        texts = [Text("-") if cell is None else Text(shown(cell.summary), cell.as_good) for cell in cells]
        rows.append([Text(row), Text(str(len(members))), *texts])
    headings = [f"{key} {ARROWS[compare.direction(runs, key)]}".strip() for key in columns]
    notes = [
        "Mean over seeds ± half of its 95 % t-interval. Bold: the best, and what is not shown to differ from it "
        f"(sign flips of subjects on the same items, Holm within a column, {compare.ALPHA}; p-values in methods.csv)."
    ]
    return Table(place, ["method", "seeds", *headings], rows, notes)


def pareto(runs: Sequence[Run], axes: Axes, to: Path, draw: bool) -> None:
    """Fronts of the benches where a method was run with several settings."""
    tables, rows = [], []
    for place, members in grouped(runs, lambda run: run.place).items():
        if len({run.row for run in members}) == len({run.method for run in members}):
            continue
        found, left = fronts(members, axes)
        for line in left:
            print(f"left out of the fronts, since a score is undefined: {line}", file=sys.stderr)
        if not found:
            continue
        tables.append(_fronts(place, found))
        rows += [
            [place, front.method, setting, *front.points[number], number in front.front, *numbers(front.hypervolume)]
            for front in found
            for number, setting in enumerate(front.settings)
        ]
        if draw:
            labels = (f"forgetting: {axes.knowledge}, base 0, gold 1", f"utility: {axes.utility}, base 1")
            figures.pareto(found, place, labels, to / f"pareto-{slug(place)}")
    if tables:
        write_tables(tables, to / "fronts")
        head = ["bench", "method", "setting", "forgetting", "utility", "on_front"]
        write_csv([*head, *(f"hypervolume_{name}" for name in SUMMARY)], rows, to / "fronts.csv")


def _fronts(place: str, found: Sequence[Front]) -> Table:
    best = max(found, key=lambda front: front.hypervolume.mean)
    rows = [
        [
            Text(front.method),
            Text(str(len(front.settings))),
            Text(str(front.hypervolume.n)),
            Text(shown(front.hypervolume), front is best),
            Text(number(front.utility)),
            Text(number(front.forgetting)),
            Text(shown(front.area)),
            Text("; ".join(front.settings[number] or "default" for number in front.front)),
        ]
        for front in found
    ]
    heads = ("method", "settings", "seeds", "hypervolume ↑", "utility at forgetting 0.95 ↑")
    few = {front.method: len(front.settings) for front in found if len(front.settings) < ADVISED}
    notes = ["Hypervolume and area: mean over seeds ± half of the 95 % t-interval. Bold: the largest; not a test."]
    if len({len(front.settings) for front in found}) > 1:
        notes.append("The methods had different numbers of settings: more settings can only enlarge a hypervolume.")
    if few:
        notes.append(f"Fewer than {ADVISED} settings, too few to call searched: {', '.join(few)}.")
    return Table(place, [*heads, "forgetting at utility 0.95 ↑", "UPCORE area ↑", "on the front"], rows, notes)
