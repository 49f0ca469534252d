"""A sweep in W&B: the group of its runs, and a run of its own with the table of all runs, the means and the figures."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from unlearn_cli.cache.canonical import canonical_sha256
from unlearn_cli.report.sweep_table import settings
from unlearn_cli.sweep.collect import ABOUT_RUN, DIGESTS, about
from unlearn_cli.sweep.record import RECORD, SEARCH, Outcome
from unlearn_cli.tracking import Tracker, let_go

if TYPE_CHECKING:
    from unlearn_cli.experiment import Experiment

OF_AGENT = ("WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH")  # by which an agent names the run it asked for
ABOUT = ("seed", "replica", "dirty")

log = logging.getLogger(__name__)


def group_of(name: str | None, run_dir: Path) -> str | None:
    """What groups a run with others: its experiment's name, or the folder of the sweep or search that it belongs to."""
    above = [folder for folder in run_dir.parents if (folder / RECORD).exists() or (folder / SEARCH).exists()]
    return name or (above[-1].name if above else None)


def take_agent() -> dict[str, str]:
    """Take an agent's name for its run out of the environment, else every run of the sweep would have it."""
    return {name: os.environ.pop(name) for name in OF_AGENT if name in os.environ}


def track(folder: Path, found: Sequence[Outcome], experiment: Experiment, agent: Mapping[str, str]) -> None:
    """Log a sweep as `experiment`, one of its runs, is logged; under an agent this is the agent's run. Never raises."""
    logger = experiment.logger
    if not logger.tracks:
        return
    if agent:
        os.environ.update(agent)
        let_go()  # W&B reads the environment once
    tracker = logger.open(
        config={"sweep": str(folder), "labels": [outcome.entry.label for outcome in found]},
        run_dir=folder,
        run_id=_id(folder, found),
        group=experiment.name or folder.name,
        tags=_tags(found),
        job_type="sweep",
    )
    try:
        _log(tracker, found)
    except Exception as error:  # a view of what the folder has anyway
        log.warning("W&B lacks parts of the sweep: %s: %s", type(error).__name__, error)
    tracker.close("ok" if all(outcome.state == "ok" for outcome in found) else "failed")


def _log(tracker: Tracker, found: Sequence[Outcome]) -> None:
    states = [outcome.state for outcome in found]
    means = settings_table(found)
    numbers: dict[str, float] = {f"runs/{state}": states.count(state) for state in dict.fromkeys(states)}
    numbers["runs"] = len(found)
    if len(means) == 1:  # the same setting again and again: its means are what the sweep found
        numbers |= {key: value for key, value in means[0].items() if isinstance(value, float)}
    tracker.metrics(numbers)
    tracker.table("settings", *_columns(means))
    tracker.table("runs", *_columns(runs_table(found)))
    with tempfile.TemporaryDirectory() as drawn:
        for name, path in _figures(found, Path(drawn)).items():
            tracker.image(name, path)


def runs_table(found: Sequence[Outcome]) -> list[dict[str, Any]]:
    """A row for each run: what is said of it in `sweep.csv`, then every number under its name in `result.json`."""
    names = (*ABOUT_RUN, *ABOUT, *DIGESTS)
    rows = []
    for outcome in found:
        told = about(outcome)
        numbers = outcome.result.flat() if outcome.result else {}
        rows.append({name: told.get(name) for name in names} | {"computed_seconds": outcome.seconds} | numbers)
    return rows


def settings_table(found: Sequence[Outcome]) -> list[dict[str, Any]]:
    """A row for each setting: how many of its runs ended well, and the mean of every number over those."""
    rows = []
    for setting, members in settings(found).items():
        results = [member.result for member in members if member.state == "ok" and member.result]
        readings = [result.flat() for result in results]
        keys = dict.fromkeys(key for reading in readings for key in reading)
        means = {key: fmean(reading[key] for reading in readings if key in reading) for key in keys}
        rows.append({"setting": setting, "runs": len(members), "ok": len(results)} | means)
    return rows


def _columns(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return names, [[row.get(name) for name in names] for row in rows]


def _figures(found: Sequence[Outcome], to: Path) -> dict[str, Path]:
    """Forgetting against utility, one figure for each bench with at least two settings."""
    if not importlib.util.find_spec("matplotlib"):
        print("W&B gets no figures of the sweep: pip install 'unlearn-cli[figures]'", file=sys.stderr)
        return {}
    from unlearn_cli.analysis import figures
    from unlearn_cli.analysis.fronts import Axes, fronts
    from unlearn_cli.analysis.runs import grouped, sorted_runs

    axes = Axes()
    drawn: dict[str, Path] = {}
    labels = (f"forgetting: {axes.knowledge}", f"utility: {axes.utility}")
    for place, members in grouped(sorted_runs(found)[0], lambda run: run.place).items():
        scored = fronts(members, axes)[0]
        if sum(len(front.settings) for front in scored) > 1:
            name = f"trade-off-{len(drawn)}"
            figures.pareto(scored, textwrap.fill(place, 70), labels, to / name)
            drawn[name] = (to / name).with_suffix(".png")
    return drawn


def _id(folder: Path, found: Sequence[Outcome]) -> str:
    """The same for the same sweep in the same folder, so that logging it again goes on in the same run."""
    return canonical_sha256({"folder": str(folder), "runs": [outcome.entry.overrides for outcome in found]})[:16]


def _tags(found: Sequence[Outcome]) -> list[str]:
    """Every option that a run of the sweep chose."""
    return list(dict.fromkeys(tag for o in found if o.result for tag in o.result.choices.values()))
