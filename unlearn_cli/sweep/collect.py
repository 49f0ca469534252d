"""Any number of results as one tidy table: a row for each run, metric and split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearn_cli.result_schema import SCHEMA_VERSION
from unlearn_cli.results import Result
from unlearn_cli.sweep.record import Entry, Outcome

if TYPE_CHECKING:
    import pyarrow

TIDY = "sweep"  # .csv and .parquet
ABOUT_RUN = ("run", "label", "state", "error", "world", "edit", "model", "method", "train", "name", "commit")
DIGESTS = ("train_digest", "gold_digest", "edit_digest")
ABOUT_VALUE = ("metric", "split", "unit", "direction", "status", "reason")
NUMBERS = ("value", "low", "high", "base", "base_low", "base_high", "gold", "gold_low", "gold_high")
SOURCE = "source"  # of a number: this program, or the one whose results were read
COUNTS = ("seed", "replica", "n", "schema_version")


def schema() -> pyarrow.Schema:
    """Names and types of the columns, in order."""
    import pyarrow

    columns = {name: pyarrow.string() for name in (*ABOUT_RUN, *DIGESTS, *ABOUT_VALUE)}
    columns |= {name: pyarrow.int64() for name in COUNTS}
    columns |= {SOURCE: pyarrow.string(), "dirty": pyarrow.bool_()} | {name: pyarrow.float64() for name in NUMBERS}
    return pyarrow.schema(columns)


def tidy(outcomes: Sequence[Outcome], others: Sequence[dict[str, Any]] = ()) -> pyarrow.Table:
    """One row for each metric and split of each finished run; a run without numbers has one row that says why.

    `others` are rows of other programs' results.
    """
    import pyarrow

    rows = [{SOURCE: "unlearn"} | row for outcome in outcomes for row in _rows(outcome)] + list(others)
    names = schema().names
    return pyarrow.table({name: [row.get(name) for row in rows] for name in names}, schema())


def write_tidy(outcomes: Sequence[Outcome], folder: Path) -> None:
    """Write `sweep.csv` and `sweep.parquet`, each whole or not at all."""
    from pyarrow import csv, parquet

    table = tidy(outcomes)
    for suffix, write in ((".csv", csv.write_csv), (".parquet", parquet.write_table)):
        draft = folder / f".{TIDY}{suffix}"
        write(table, draft)
        draft.replace(folder / f"{TIDY}{suffix}")


def read_runs(folders: Sequence[Path]) -> list[Outcome]:
    """Every run under the folders, single ones and those of sweeps, with what is missing or was refused there."""
    from unlearn_cli.sweep.record import RECORD, RESULT, outcome, outcomes

    found: dict[Path, Outcome] = {}
    for folder in folders:
        for record in sorted(folder.rglob(RECORD)):
            found |= {
                record.parent / (item.entry.folder or f"#{item.entry.number}"): item for item in outcomes(record.parent)
            }
        for path in sorted(folder.rglob(RESULT)):
            if path.parent not in found:
                alone = Entry(0, path.parent.name, [], path.parent.name, [])
                found[path.parent] = outcome(path.parent.parent, alone)
    return list(found.values())


def about(outcome: Outcome) -> dict[str, Any]:
    """What is said of a run beside its numbers."""
    told = {
        "run": outcome.entry.folder,
        "label": outcome.entry.label,
        "state": outcome.state,
        "error": outcome.error or None,
        "schema_version": SCHEMA_VERSION,
    }
    return told if outcome.result is None else told | _about(outcome.result)


def _rows(outcome: Outcome) -> Iterator[dict[str, Any]]:
    told = about(outcome)
    if outcome.result is None or not outcome.result.metrics:
        yield told
        return
    for key, item in outcome.result.metrics.items():
        metric, _, split = key.partition("/")
        yield told | {"metric": metric, "split": split or None} | _numbers(item)


def _about(result: Result) -> dict[str, Any]:
    digests = {f"{name}_digest": result.stages.get(name, {}).get("digest") for name in ("train", "gold", "edit")}
    provenance = {name: result.provenance.get(name) for name in ("commit", "dirty")}
    repetition = {"seed": result.seed, "replica": result.replica}
    return {**result.choices, "name": result.name, **repetition, **provenance, **digests}


def _numbers(item: dict[str, Any]) -> dict[str, Any]:
    """The readings of one entry of `result.json`."""
    told = {name: item[name] for name in ("value", "n", "unit", "direction", "status", "reason")}
    told |= dict(zip(("low", "high"), item["ci"] or (None, None), strict=True))
    for role in ("base", "gold"):
        reading = item[role] or {"value": None, "ci": None}
        told[role] = reading["value"]
        told |= dict(zip((f"{role}_low", f"{role}_high"), reading["ci"] or (None, None), strict=True))
    return told
