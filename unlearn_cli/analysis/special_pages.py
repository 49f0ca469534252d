"""What scripts/analyse.py writes where the runs have it: growing requests, the leaderboard, and paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from unlearn_cli.analysis import boards, figures, growth
from unlearn_cli.analysis.paths import followed
from unlearn_cli.analysis.runs import Run, grouped
from unlearn_cli.analysis.seeds import Summary, summarize
from unlearn_cli.analysis.tables import SUMMARY, Table, Text, number, numbers, shown, slug, write_csv, write_tables

PARTS = ("memorization", "privacy", "utility", "aggregate")


def grown(runs: Sequence[Run], keys: Sequence[str], to: Path, draw: bool) -> None:
    """Curves over the number of requested facts, where there are several."""
    tables, rows = [], []
    for bench, members in grouped(runs, lambda run: run.bench).items():
        found = {key: lines for key in keys if (lines := growth.curves(members, key))}
        if not found:
            continue
        tables.append(_growth(bench, found, members, keys[0]))
        rows += [
            [bench, line.name, key, size, *numbers(point)]
            for key, lines in found.items()
            for line in lines
            for size, point in zip(line.sizes, line.points, strict=True)
        ]
        if draw:
            figures.growth(found, bench, to / f"growth-{slug(bench)}")
    if tables:
        write_tables(tables, to / "growth")
        write_csv(["bench", "method", "metric", "facts", *SUMMARY], rows, to / "growth.csv")


def _growth(bench: str, found: Mapping[str, Sequence[growth.Curve]], runs: Sequence[Run], knowledge: str) -> Table:
    rows = [
        [
            Text(line.name),
            Text(key),
            Text(", ".join(map(str, line.sizes))),
            Text(shown(line.slope)),
            Text(shown(line.largest)),
        ]
        for key, lines in found.items()
        for line in lines
    ]
    notes = ["Slope: change for each factor e of requested facts, fitted for each seed; ± half of the 95 % t-interval."]
    for run in runs:
        if (value := growth.relapse_of(run, knowledge)) is not None:
            facts = run.result.request["facts"]
            notes.append(
                f"{run.row}, {facts} requests in sequence, seed {run.seed}: earlier half - later half = {value:.3f}."
            )
    return Table(bench, ["method", "metric", "facts", "slope per ln(facts)", "at the largest"], rows, notes)


def ranked(runs: Sequence[Run], to: Path) -> None:
    """OpenUnlearning's aggregate of the benches whose runs have its parts; gold's own beside it."""
    tables, rows = [], []
    for place, members in grouped(runs, lambda run: run.place).items():
        lines: list[tuple[str, list[boards.Score]]] = [
            (role, [found for run in members if (found := boards.score(run, role))]) for role in ("base", "gold")
        ]
        for row, own in grouped(members, lambda run: run.row).items():
            lines.append((row, [found for run in own if (found := boards.score(run))]))
        known = [(row, found) for row, found in lines if found]
        if not any(row not in ("base", "gold") for row, _ in known):
            continue
        parts = {row: [_over(found, part) for part in PARTS] for row, found in known}
        texts = [[Text(row), *(Text(shown(part)) for part in found)] for row, found in parts.items()]
        note = "1 - x rewards knowing less than nothing: gold's own score is what an ideal method gets."
        tables.append(Table(place, ["method", *(f"{part} ↑" for part in PARTS)], texts, [note]))
        rows += [
            [place, row, part, *numbers(summary)]
            for row, found in parts.items()
            for part, summary in zip(PARTS, found, strict=True)
            if summary is not None
        ]
    if tables:
        write_tables(tables, to / "leaderboard")
        write_csv(["bench", "row", "part", *SUMMARY], rows, to / "leaderboard.csv")


def _over(scores: Sequence[boards.Score], part: str) -> Summary | None:
    values = [value for score in scores if (value := getattr(score, part)) is not None]
    return summarize(values) if values else None


def paths(runs: Sequence[Run], knowledge: str, utility: str, to: Path) -> None:
    """Steps to forget of the runs whose path was asked."""
    found = followed(runs, knowledge, utility)
    if not found:
        return
    heads = ("run", "seed", "steps to forget", "utility there", "steps to over-forget", "UPCORE area")
    rows = [
        [
            Text(f"{one.run.place}: {one.run.row}"),
            Text(str(one.run.seed)),
            Text(f"{one.steps.forgotten} (asked every {one.every})"),
            Text(number(one.steps.utility)),
            Text(str(one.steps.over)),
            Text(number(one.area)),
        ]
        for one in found
    ]
    note = "`> n`: not within the n steps that were asked, or not for three evaluations in a row."
    write_tables([Table("Steps to forget", heads, rows, [note])], to / "paths")
    columns = ("bench", "row", "seed", "every", "forgotten", "utility", "over", "last", "area")
    values = [
        [
            *(one.run.place, one.run.row, one.run.seed, one.every, one.steps.forgotten.step, one.steps.utility),
            *(one.steps.over.step, one.steps.forgotten.seen, one.area),
        ]
        for one in found
    ]
    write_csv(columns, values, to / "paths.csv")
