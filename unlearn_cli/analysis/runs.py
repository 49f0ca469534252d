"""Finished runs, sorted for comparison: runs of one bench differ in their method, its settings and the seed alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from unlearn_cli.errors import UnlearnError
from unlearn_cli.result_schema import SCHEMA_VERSION
from unlearn_cli.results import Result

if TYPE_CHECKING:
    from unlearn_cli.sweep.record import Outcome

PLACES = ("world", "edit", "model", "train")
BENCH = ("world", "edit", "model", "train", "retain")  # fields of these make another bench
SIZE = ("edit.n", "edit.share", "edit.schedule")  # what scalability and sustainability vary


@dataclass(frozen=True)
class Run:
    """One finished run."""

    result: Result
    bench: str  # the world, edit, model, training, and their changed fields
    size: str  # changed fields of how much is requested, and how it is handed over
    method: str
    setting: str  # changed fields of the method
    cache: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)  # what was read of its files

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.result.seed

    @property
    def row(self) -> str:
        """Method and setting."""
        return f"{self.method} {self.setting}".strip()

    @property
    def place(self) -> str:
        """The bench with its size: what is compared in one table."""
        return f"{self.bench} {self.size}".strip()

    def value(self, key: str, role: str = "value") -> float | None:
        """A metric of the edited model, or of `base` or `gold`; None where there is none."""
        item = self.result.metrics.get(key)
        found = item and (item["value"] if role == "value" else (item[role] or {}).get("value"))
        return None if found is None else float(found)

    def items(self) -> Any:
        """`items.parquet` as columns, read once."""
        if "items" not in self.cache:
            self.cache["items"] = _read_items(self.result.run_dir / "items.parquet")
        return self.cache["items"]


def sorted_runs(outcomes: Iterable[Outcome]) -> tuple[list[Run], list[str]]:
    """The finished runs, and one line for each that is left out."""
    runs, left = [], []
    for outcome in outcomes:
        if outcome.state == "ok" and outcome.result is not None:
            runs.append(_run(outcome.result, outcome.entry.overrides))
        else:
            name = outcome.entry.label or outcome.entry.folder
            left.append(f"{outcome.state}: {name}" + (f": {outcome.error}" if outcome.error else ""))
    return runs, left


def one_schema(folders: Sequence[Path]) -> None:
    """Refuse results of several schema versions, or of another than this program's."""
    counted: Counter[Any] = Counter()
    for path in (path for folder in folders for path in folder.rglob("result.json")):
        try:
            counted[json.loads(path.read_text()).get("schema_version")] += 1
        except (OSError, ValueError, AttributeError):
            continue  # a damaged one is told as a failed run
    if set(counted) - {SCHEMA_VERSION}:
        told = ", ".join(f"version {version} ({n} runs)" for version, n in sorted(counted.items(), key=str))
        raise UnlearnError(f"results of schema {told}; this version of unlearn reads {SCHEMA_VERSION} alone")


def duplicates(runs: Sequence[Run]) -> list[str]:
    """Runs of the same bench, method, setting and seed: only one of them may count."""
    counted = Counter((run.place, run.row, run.seed) for run in runs)
    return [f"{place}, {row}, seed {seed}: {n} runs" for (place, row, seed), n in counted.items() if n > 1]


def grouped(runs: Iterable[Run], key: Callable[[Run], str]) -> Mapping[str, list[Run]]:
    """Runs by what `key` says of them, in the order in which they stand."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(key(run), []).append(run)
    return found


def _run(result: Result, overrides: Sequence[str]) -> Run:
    changed = [word.lstrip("+") for word in overrides or _own_overrides(result.run_dir)]
    fields = [word for word in changed if "." in word.partition("=")[0] or "/" in word.partition("=")[0]]
    method = sorted(word for word in fields if _head(word) == "method")
    size = sorted(word for word in fields if word.partition("=")[0] in SIZE)
    others = sorted(word for word in fields if _head(word) in BENCH and word not in size)
    bench = " · ".join(result.choices[group] for group in PLACES if group in result.choices)
    setting = " ".join(word.removeprefix("method.") for word in method)
    return Run(result, " ".join([bench, *others]), " ".join(size), result.choices["method"], setting)


def _head(word: str) -> str:
    return word.partition("=")[0].replace("/", ".").partition(".")[0]


def _own_overrides(folder: Path) -> list[str]:
    """What the command of a single run changed."""
    path = folder / ".hydra" / "overrides.yaml"
    return list(yaml.safe_load(path.read_text()) or []) if path.exists() else []


def _read_items(path: Path) -> Any:
    from pyarrow import parquet

    if not path.exists():
        return None
    table = parquet.read_table(path)
    return {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
