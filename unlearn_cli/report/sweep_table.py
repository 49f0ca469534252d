"""The table that ends a sweep: a line for each setting with its mean over seeds and replicas, then what went wrong."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Sequence
from statistics import mean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unlearn_cli.results import Result
    from unlearn_cli.sweep.record import Outcome

COLUMNS = {  # heading -> key in `result.json`
    "forget": "fact_accuracy/forget",
    "edited": "fact_accuracy/edited",
    "retain/unseen": "fact_accuracy/retain/unseen",
}
NAMED = 3  # of the runs with the same fault
FAULTY = ("failed", "refused", "interrupted", "running", "waiting")


def table(outcomes: Sequence[Outcome]) -> str:
    """Plain text; numbers are never cut."""
    from rich.console import Console
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, header_style="")
    shown = [name for name, key in COLUMNS.items() if any(_value(o, key) is not None for o in outcomes)]
    for heading in ("setting", "ok", *shown, *(["gold forget"] if "forget" in shown else []), "seconds"):
        grid.add_column(heading, justify="left" if heading == "setting" else "right", no_wrap=True)
    for setting, members in settings(outcomes).items():
        if all(member.state == "refused" for member in members):
            continue  # told below
        gold = [_mean(members, COLUMNS["forget"], "gold")] if "forget" in shown else []
        numbers = [*(_mean(members, COLUMNS[name]) for name in shown), *gold]
        good = sum(member.state == "ok" for member in members)
        seconds = sum(member.seconds for member in members)
        grid.add_row(setting, f"{good}/{len(members)}", *numbers, f"{seconds:.1f}")
    page = io.StringIO()
    width = max(shutil.get_terminal_size().columns, 1000)
    Console(file=page, width=width, color_system=None).print(grid)
    lines = [line.rstrip() for line in page.getvalue().splitlines()]
    return "\n".join([*lines, *_faults(outcomes), _counts(outcomes)])


def settings(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """Runs that differ in their seed and replica only, by what they have in common."""
    found: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        setting = re.sub(r"(^| )(seed|replica)=\S+", "", outcome.entry.label).strip() or "all"
        found.setdefault(setting, []).append(outcome)
    return found


def _mean(members: Sequence[Outcome], key: str, role: str = "value") -> str:
    values = [value for member in members if (value := _value(member, key, role)) is not None]
    return f"{mean(values):.3f}" if values else "-"


def _value(outcome: Outcome, key: str, role: str = "value") -> float | None:
    result: Result | None = outcome.result
    if result is None or key not in result.metrics:
        return None
    item = result.metrics[key]
    found = item["value"] if role == "value" else (item[role] or {}).get("value")
    return None if found is None else float(found)


def _faults(outcomes: Sequence[Outcome]) -> list[str]:
    """A line for each reason, with the first runs that have it; `sweep.csv` has them all."""
    groups: dict[tuple[str, str], list[str]] = {}
    for outcome in outcomes:
        if outcome.state in FAULTY:
            label = outcome.entry.label or outcome.entry.folder
            groups.setdefault((outcome.state, outcome.error), []).append(label)
    lines = []
    for (state, error), labels in groups.items():
        count = f" {len(labels)} runs" if len(labels) > 1 else ""
        more = f", and {len(labels) - NAMED} more" if len(labels) > NAMED else ""
        lines.append(f"{state}{count}: {', '.join(labels[:NAMED])}{more}" + (f": {error}" if error else ""))
    return lines


def _counts(outcomes: Sequence[Outcome]) -> str:
    states = [outcome.state for outcome in outcomes]
    return f"{len(states)} runs: " + ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
