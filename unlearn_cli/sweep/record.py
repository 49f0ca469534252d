"""What a sweep's folder says of its runs: `sweep.json` is the plan, what became of each run is in its own folder."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from unlearn_cli.errors import ConfigError, UnlearnError
from unlearn_cli.experiment import Experiment
from unlearn_cli.results import Result

RECORD = "sweep.json"
SEARCH = "search.json"  # in a folder whose sweeps are the batches of a search
RESULT = "result.json"
HEARTBEAT = "heartbeat"  # in a run's folder, touched while a job of a cluster carries it out
SCHEMA_VERSION = 1

State = Literal["ok", "failed", "refused", "interrupted", "running", "waiting"]


@dataclass(frozen=True)
class Entry:
    """One run as planned."""

    number: int
    label: str  # what sets it apart from the others
    overrides: list[str]
    folder: str  # inside the sweep's; empty for a refused one
    refused: list[str]  # why it contradicts itself; empty for one that can run


@dataclass(frozen=True)
class Outcome:
    """What became of one run so far."""

    entry: Entry
    state: State
    error: str = ""  # in one line
    seconds: float = 0.0  # of computation; 0 for stages that were there already
    result: Result | None = None


def write(folder: Path, entries: Sequence[Entry], provenance: dict[str, Any]) -> None:
    """Record a new sweep; ConfigError if its folder holds another one."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"schema_version": SCHEMA_VERSION, "provenance": provenance, "runs": [asdict(entry) for entry in entries]}
    known = read(folder) if (folder / RECORD).exists() else None
    if known is not None and [entry.overrides for entry in known] != [entry.overrides for entry in entries]:
        raise ConfigError([f"hydra.sweep.dir: {folder} holds another sweep; choose another folder, or remove it"])
    draft = folder / f".{RECORD}.{os.getpid()}"
    draft.write_text(json.dumps(content, indent=1) + "\n")
    draft.replace(folder / RECORD)


def read(folder: Path) -> list[Entry]:
    """The runs of a sweep as planned; UnlearnError if there is no sound record."""
    try:
        content = json.loads((folder / RECORD).read_text())
        if content["schema_version"] != SCHEMA_VERSION:
            raise UnlearnError(
                f"{folder / RECORD} has schema version {content['schema_version']}, not {SCHEMA_VERSION}"
            )
        return [Entry(**run) for run in content["runs"]]
    except FileNotFoundError:
        raise UnlearnError(f"{folder} is no sweep: it has no {RECORD}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnlearnError(f"{folder / RECORD} cannot be read: {error}") from None


def forget(place: Path) -> None:
    """Drop the result of an earlier attempt, which would be taken for the outcome of one that ends without any."""
    (place / RESULT).unlink(missing_ok=True)


def write_failure(folder: Path, entry: Entry, experiment: Experiment, stage: str | None, why: str) -> None:
    """Write the result of a run that did not write one itself."""
    place = folder / entry.folder
    if (place / RESULT).exists():
        return
    place.mkdir(parents=True, exist_ok=True)
    choices = {group: experiment.chosen(group) for group in ("world", "edit", "model", "method", "train")}
    result = Result(choices, experiment.seed, place, replica=experiment.replica, name=experiment.name)
    result.error = {"stage": stage, "type": "UnlearnError", "message": why}
    result.write(place / RESULT)


def outcomes(folder: Path) -> list[Outcome]:
    """What became of every run of a sweep, told by the files that the runs left."""
    return [outcome(folder, entry) for entry in read(folder)]


def outcome(folder: Path, entry: Entry) -> Outcome:
    """What became of one run so far."""
    if entry.refused:
        return Outcome(entry, "refused", "; ".join(entry.refused))
    place = folder / entry.folder
    if not (place / RESULT).exists():
        return Outcome(entry, "running" if place.exists() else "waiting")
    try:
        result = Result.read(place / RESULT)
    except UnlearnError as error:
        return Outcome(entry, "failed", str(error))
    made = sum(stage["seconds"] for stage in result.stages.values() if not stage["cached"])
    if result.error is None:
        return Outcome(entry, result.status, seconds=made, result=result)
    stage = f"{result.error['stage']}: " if result.error["stage"] else ""
    return Outcome(entry, result.status, f"{stage}{result.error['message']}".splitlines()[0], made, result)
