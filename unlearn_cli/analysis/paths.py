"""The paths of runs with `method.save_every`, asked by scripts/path_curves.py: when they forget, at what price."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unlearn_cli.analysis.path import Path as Steps
from unlearn_cli.analysis.path import follow
from unlearn_cli.analysis.runs import Run
from unlearn_cli.analysis.tradeoff import tradeoff_auc

FILE = "path.csv"


@dataclass(frozen=True)
class Followed:
    """One run's path."""

    run: Run
    steps: Steps
    every: int  # steps between evaluations
    area: float | None  # UPCORE's, anchored


def followed(runs: Sequence[Run], knowledge: str, utility: str) -> list[Followed]:
    """Every run with a path of one request, a gold model and both metrics."""
    found = [_follow(run, run.result.run_dir / FILE, knowledge, utility) for run in runs]
    return [one for one in found if one is not None]


def _follow(run: Run, file: Path, knowledge: str, utility: str) -> Followed | None:
    if not file.is_file():
        return None
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    gold = next((row for row in rows if row["model"] == "gold"), None)
    path = [row for row in rows if row["model"] != "gold"]
    missing = any(not row.get(key) for row in path for key in (knowledge, utility))
    if gold is None or not gold.get(knowledge) or missing or any(row["request"] for row in path):
        return None
    steps = [int(row["step"]) for row in path]
    known, kept = (np.array([float(row[key]) for row in path]) for key in (knowledge, utility))
    area = tradeoff_auc(1 - known, kept, base_y=float(kept[0]))
    every = min(np.diff(steps).tolist(), default=0)
    return Followed(run, follow(steps, known, float(gold[knowledge]), kept), every, area)
