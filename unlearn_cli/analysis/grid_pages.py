"""What scripts/table.py writes: the table as Markdown, LaTeX and CSV, the verdicts, and where each number is from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from unlearn_cli.analysis.compare import ALPHA
from unlearn_cli.analysis.grid import Cell, Grid, Member, Place
from unlearn_cli.analysis.grid_columns import Entry, column, direction, reference
from unlearn_cli.analysis.pages import ARROWS
from unlearn_cli.analysis.tables import SUMMARY, Table, Text, numbers, shown, write_csv, write_tables
from unlearn_cli.analysis.verdicts import Trial

STAGES = ("train", "gold", "prepare", "edit", "evaluate")
TOLD = 8  # faults that the table itself names


def write(grid: Grid, tried: Sequence[Trial], stem: Path) -> None:
    """`.md`, `.tex`, `.csv` and `.provenance.json`."""
    columns = {(panel, name): column(grid, panel, name) for panel in grid.panels for name in grid.spec.columns}
    tables = [_table(grid, panel, columns) for panel in grid.panels]
    write_tables([*tables, *_verdicts(grid, tried)], stem)
    write_csv(_heads(grid), [row for key, found in columns.items() for row in _rows(grid, *key, found)], _csv(stem))
    stem.with_name(f"{stem.name}.provenance.json").write_text(json.dumps(_provenance(grid, tried), indent=1) + "\n")


def label(grid: Grid, keys: Sequence[str], place: Place) -> list[str]:
    """What stands in the table for the values of a panel or a row."""
    return [grid.spec.names.get(f"{key}={value}", value) for key, value in zip(keys, place, strict=True)]


def _csv(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}.csv")


def _table(grid: Grid, panel: Place, columns: Mapping[tuple[Place, str], Mapping[Place, Entry]]) -> Table:
    spec = grid.spec
    cells = {row: cell for (place, row), cell in grid.cells.items() if place == panel}
    keys = [key.rpartition(".")[2] for key in spec.rows]
    headings = [f"{name} {ARROWS[direction(grid, name)]}".strip() for name in spec.columns]
    rows = []
    for role in ("base", "gold"):
        known = [reference(grid, panel, name, role) for name in spec.columns]
        if any(known):
            seeds = max(item.n for item in known if item)
            blank = [Text("")] * (len(keys) - 1)
            rows.append([Text(role), *blank, Text(str(seeds)), *(Text(shown(item)) for item in known)])
    for row, cell in cells.items():
        entries = [columns[panel, name][row] for name in spec.columns]
        states = "" if cell.chosen else " " + "/".join(dict.fromkeys(map(_state, cell.faults)))
        count = Text(f"{len(cell.chosen)}/{cell.planned}{states}")
        rows.append([*map(Text, label(grid, spec.rows, row)), count, *(_text(entry, cell) for entry in entries)])
    title = ", ".join([spec.title, *label(grid, spec.panels, panel)])
    return Table(title, [*keys, "seeds", *headings], rows, _notes(grid, panel))


def _text(entry: Entry, cell: Cell) -> Text:
    if entry.summary is None:
        return Text("-")
    fewer = f" (n={entry.summary.n})" if entry.summary.n != len(cell.chosen) else ""
    mark = "+" if entry.alone else "=" if entry.as_good and not entry.best else ""
    return Text(shown(entry.summary) + fewer, entry.best, mark)


def _notes(grid: Grid, panel: Place) -> list[str]:
    notes = [
        "Mean over seeds ± half of its 95 % t-interval; seeds: runs that ended well of those planned. Bold: the best "
        "of the column; + all others differ from it, = not shown to differ from it (subjects exchanged in pairs "
        f"within seeds, Holm within the column, {ALPHA}; p-values in the csv). No mark: differs, or cannot be tested."
    ]
    if grid.spec.choose and grid.spec.rule:
        key = grid.spec.choose.rpartition(".")[2]
        notes.append(f"Each row's {key} is the one with the highest {grid.spec.rule.measure} on its other seeds.")
        for which, rows in at_edges(grid, panel).items():
            notes[-1] += f" It is the {which} that was tried in {', '.join(rows)}: what lies beyond is not known."
    faults = [member for member in grid.members if member.run is None and member.panel == panel]
    if faults:
        more = f"; and {len(faults) - TOLD} more" if len(faults) > TOLD else ""
        told = "; ".join(_fault(member) for member in faults[:TOLD])
        notes.append(f"{len(faults)} runs are not in it: {told}{more}.")
    if grid.refused:
        reasons = "; ".join(dict.fromkeys(f"{item.entry.label}" for item in grid.refused))
        notes.append(f"{len(grid.refused)} settings contradict themselves and have no row: {reasons}.")
    return [*notes, _commits(grid)]


def at_edges(grid: Grid, panel: Place) -> dict[str, list[str]]:
    """Rows whose seeds all chose the lowest or the highest of several numbers of the tuned key."""
    found: dict[str, list[str]] = {"lowest": [], "highest": []}
    for (place, row), cell in grid.cells.items():
        tried = {member.tuned for member in grid.members if (member.panel, member.row) == (panel, row)}
        if place != panel or len(tried) < 2:
            continue
        try:
            values, chosen = set(map(float, tried)), {float(member.tuned) for member in cell.chosen.values()}
        except ValueError:  # words have no edge
            continue
        name = " ".join(label(grid, grid.spec.rows, row))
        for which, edge in (("lowest", min(values)), ("highest", max(values))):
            found[which] += [name] if chosen == {edge} else []
    return {which: rows for which, rows in found.items() if rows}


def _commits(grid: Grid) -> str:
    results = [member.run.result for member in grid.members if member.run is not None]
    commits = Counter(str(result.provenance.get("commit"))[:10] for result in results)
    told = ", ".join(f"{commit} ({n} runs)" for commit, n in commits.items())
    dirty = sum(bool(result.provenance.get("dirty")) for result in results)
    changed = f"; {dirty} runs are of a checkout with changes that no commit has" if dirty else ""
    return f"Commit {told}{changed}. Runs, folders and digests behind each cell are in the provenance file."


def _fault(member: Member) -> str:
    error = f" ({member.outcome.error})" if member.outcome.error else ""
    return f"{_state(member)}: {member.outcome.entry.label}{error}"


def _state(member: Member) -> str:
    """A run that was never begun is missing."""
    return {"waiting": "missing"}.get(member.outcome.state, member.outcome.state)


def _verdicts(grid: Grid, tried: Sequence[Trial]) -> list[Table]:
    rule = grid.spec.rule
    if not tried or rule is None:
        return []
    rows = []
    for trial in tried:
        counts = [str(trial.counts[name]) for name in ("better", "worse", "undecided")]
        row = [trial.claim.says, trial.at, *counts, str(len(trial.compared)), f"{trial.claim.share:g}"]
        rows.append([*map(Text, row), Text(trial.verdict, bold=True)])
    notes = [
        f"Better: {rule.measure} ({grid.spec.columns[rule.measure]}) higher by {rule.margin:g} or more, with one sign "
        f"on every seed, and p < {rule.alpha:g} by exchanging subjects after Holm's correction over the row's "
        "comparisons. Holds: better in the needed share of them. Fails: not even if all undecided ones were better. "
        "Better/worse/undecided by panel: " + "; ".join(_by_panel(grid, trial) for trial in tried) + "."
    ]
    heads = ["claim", "at", "better", "worse", "undecided", "comparisons", "needed share", "verdict"]
    return [Table(f"{grid.spec.title}: claims", heads, rows, notes)]


def _by_panel(grid: Grid, trial: Trial) -> str:
    told = []
    for panel in grid.panels:
        mine = Counter(item.outcome for item in trial.compared if item.panel == panel)
        name = " ".join(label(grid, grid.spec.panels, panel)) or "all"
        told.append(f"{name} {mine['better']}/{mine['worse']}/{mine['undecided']}")
    return f"{trial.name}{f' ({trial.at})' if trial.at else ''} " + ", ".join(told)


def _heads(grid: Grid) -> list[str]:
    return [*grid.spec.keys, "column", "metric", *SUMMARY, "planned", "best", "p", "base", "gold"]


def _rows(grid: Grid, panel: Place, name: str, found: Mapping[Place, Entry]) -> list[list[object]]:
    base, gold = (reference(grid, panel, name, role) for role in ("base", "gold"))
    ends = [item.mean if item else None for item in (base, gold)]
    rows = []
    for row, entry in found.items():
        known = numbers(entry.summary) if entry.summary else [None, None, None, None, 0]
        planned = grid.cells[panel, row].planned
        rows.append([*panel, *row, name, grid.spec.columns[name], *known, planned, entry.best, entry.p, *ends])
    return rows


def _provenance(grid: Grid, tried: Sequence[Trial]) -> dict[str, Any]:
    cells = []
    for (panel, row), cell in grid.cells.items():
        members = [member for member in grid.members if (member.panel, member.row) == (panel, row)]
        place = dict(zip(grid.spec.keys, (*panel, *row), strict=True))
        chosen = list(cell.chosen.values())
        cells.append({"cell": place, "runs": [_run(grid, member, member in chosen) for member in members]})
    claims = [
        {
            "claim": trial.name,
            "at": trial.at,
            "verdict": trial.verdict,
            "compared": [asdict(one) for one in trial.compared],
        }
        for trial in tried
    ]
    return {"title": grid.spec.title, "claims": claims, "cells": cells}


def _run(grid: Grid, member: Member, chosen: bool) -> dict[str, Any]:
    """One run: where it is, and what determined it."""
    told: dict[str, Any] = {"seed": member.seed, "state": _state(member), "in_table": chosen}
    if grid.spec.choose:
        told[grid.spec.choose] = member.tuned
    if member.outcome.error:
        told["error"] = member.outcome.error
    if member.run is not None:
        result = member.run.result
        told |= {"folder": str(result.run_dir), **{key: result.provenance.get(key) for key in ("commit", "dirty")}}
        told["digests"] = {name: result.stages[name]["digest"] for name in STAGES if name in result.stages}
    return told
