"""Which work of a sweep is shared: a base or gold that several runs need is made once, before them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from unlearn_cli import stages
from unlearn_cli.cache import Cache
from unlearn_cli.experiment import Experiment
from unlearn_cli.study import Study


@dataclass(frozen=True)
class Shared:
    """A stage that more than one run needs and that is not there yet."""

    digest: str
    label: str  # for people: what is trained
    cell: int  # a run that needs it, by which it is made
    member: int | None  # of the gold models; None for the base


@dataclass(frozen=True)
class Plan:
    """The shared stages of a sweep, and which of them each run waits for."""

    shared: list[Shared]
    waits: Mapping[int, frozenset[str]] = field(default_factory=dict)  # number of a run -> digests


def plan(experiments: Mapping[int, Experiment]) -> Plan:
    """Find the missing stages that two runs or more have in common, in the order of the runs; trains nothing."""
    found: dict[str, Shared] = {}
    needed: dict[str, list[int]] = {}
    for number, experiment in experiments.items():
        for stage in _trained(number, experiment):
            found.setdefault(stage.digest, stage)
            needed.setdefault(stage.digest, []).append(number)
    cache = {number: Cache(Path(experiment.paths.cache)) for number, experiment in experiments.items()}
    shared = [
        stage
        for digest, stage in found.items()
        if len(needed[digest]) > 1 and not _there(cache[stage.cell], experiments[stage.cell], stage)
    ]
    digests = {stage.digest for stage in shared}
    waits = {
        number: frozenset(digest for digest, users in needed.items() if number in users and digest in digests)
        for number in experiments
    }
    return Plan(sorted(shared, key=lambda stage: stage.cell), waits)


def _trained(number: int, experiment: Experiment) -> list[Shared]:
    """What one run trains before its edit."""
    study = Study.of(experiment)
    base = stages.base_stage(study)
    golds = stages.gold_stages(study)
    return [
        Shared(base.digest, f"base {base.label}", number, None),
        *(Shared(gold.digest, f"gold {gold.label}", number, member) for member, gold in enumerate(golds)),
    ]


def _there(cache: Cache, experiment: Experiment, stage: Shared) -> bool:
    study = Study.of(experiment)
    made = stages.base_stage(study) if stage.member is None else stages.gold_stage(study, stage.member)
    return cache.find(made) is not None
