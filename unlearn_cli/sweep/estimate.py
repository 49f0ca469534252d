"""How long the missing work of a sweep takes, from what its cache has recorded of the same work."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from unlearn_cli import stages
from unlearn_cli.cache import Cache, Stage
from unlearn_cli.experiment import Experiment
from unlearn_cli.study import Study


@dataclass
class Estimate:
    """Stages of one kind over all runs, each counted once."""

    name: str
    total: int = 0
    missing: int = 0
    seconds: float = 0.0  # of the missing ones, one after another
    sources: set[str] = field(default_factory=set)  # where the seconds are from


def estimate(experiments: Iterable[Experiment], measured: Mapping[str, float]) -> dict[str, Estimate]:
    """By stage; `measured` seconds stand in where nothing was recorded, and 0 where that has nothing either."""
    needed: dict[str, tuple[Stage, Path]] = {}
    for experiment in experiments:
        for stage in _needed(experiment):
            needed.setdefault(stage.digest, (stage, Path(experiment.paths.cache)))
    recorded: dict[tuple[str, str], list[float]] = defaultdict(list)
    missing: list[Stage] = []
    found: dict[str, Estimate] = {}
    for stage, root in needed.values():
        one = found.setdefault(stage.name, Estimate(stage.name))
        one.total += 1
        artifact = Cache(root).find(stage)
        if artifact is None:
            missing.append(stage)
        else:
            recorded[stage.name, stage.label].append(artifact.seconds)
    for stage in missing:
        one = found[stage.name]
        seconds, source = _expected(stage, recorded, measured)
        one.missing, one.seconds = one.missing + 1, one.seconds + seconds
        one.sources.add(source)
    return found


def _needed(experiment: Experiment) -> Sequence[Stage]:
    """The stages that take time: trainings, edits, and evaluations with what they ask and observe."""
    study = Study.of(experiment)
    prepared = [stage for stage in [stages.prepare_stage(study)] if stage]
    models = [stages.base_stage(study), *stages.gold_stages(study), *prepared, stages.edit_stage(study)]
    return [*models, stages.evaluate_stage(study)]


def _expected(
    stage: Stage, recorded: Mapping[tuple[str, str], Sequence[float]], measured: Mapping[str, float]
) -> tuple[float, str]:
    """Seconds, and where they are from: the same label, the same stage, or the measured ones."""
    alike = recorded.get((stage.name, stage.label)) or [
        seconds for (name, _), known in recorded.items() if name == stage.name for seconds in known
    ]
    if alike:
        return mean(alike), "recorded in the cache"
    return (measured[stage.name], "measured, in the yaml") if stage.name in measured else (0.0, "unknown")
