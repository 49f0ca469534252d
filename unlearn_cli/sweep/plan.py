"""Which work of a sweep is shared: a model that several runs need is made once, before them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from unlearn_cli import stages
from unlearn_cli.cache import Cache, Stage
from unlearn_cli.experiment import Experiment
from unlearn_cli.study import Study
from unlearn_cli.worlds.built import Built


@dataclass(frozen=True)
class Shared:
    """A stage that more than one run needs and that is not there yet."""

    digest: str
    label: str  # for people: what is made
    cell: int  # a run that needs it, by which it is made
    stage: str  # its name, as in the cache
    member: int = 0  # of several such models of one run
    after: list[str] = field(default_factory=list)  # digests of shared stages that it is made from


@dataclass(frozen=True)
class Plan:
    """The shared stages of a sweep, and which of them each run waits for."""

    shared: list[Shared]
    waits: Mapping[int, frozenset[str]] = field(default_factory=dict)  # number of a run -> digests


def plan(experiments: Mapping[int, Experiment]) -> Plan:
    """Find the missing stages that two runs or more have in common, in the order of the runs; makes nothing."""
    built = Built()
    found: dict[str, tuple[Shared, Stage]] = {}
    needs: dict[int, set[str]] = {}
    for number, experiment in experiments.items():
        needs[number] = set()
        for shared, stage in _made_before_the_edit(number, Study.of(experiment, built)):
            found.setdefault(shared.digest, (shared, stage))
            needs[number].add(shared.digest)
    users = Counter(digest for digests in needs.values() for digest in digests)
    missing = {
        digest: shared
        for digest, (shared, stage) in found.items()
        if users[digest] > 1 and Cache(Path(experiments[shared.cell].paths.cache)).find(stage) is None
    }
    listed = [replace(shared, after=[one for one in shared.after if one in missing]) for shared in missing.values()]
    return Plan(listed, {number: frozenset(digests & missing.keys()) for number, digests in needs.items()})


def _made_before_the_edit(number: int, study: Study) -> Iterator[tuple[Shared, Stage]]:
    """Every model that one run needs besides its edited one, after those that it is made from."""
    base, start, prepared = stages.base_stage(study), stages.start_stage(study), stages.prepare_stage(study)
    golds = list(stages.gold_stages(study))
    if "gold_fresh" in study.experiment.method.needs:
        golds.append(stages.fresh_gold_stage(study))

    def shared(stage: Stage, what: str, member: int = 0, after: Stage | None = None) -> tuple[Shared, Stage]:
        label = f"{what} {stage.label} s{study.experiment.seed}"
        return Shared(stage.digest, label, number, stage.name, member, [after.digest] if after else []), stage

    yield shared(base, "base")
    for member, gold in enumerate(golds):
        yield shared(gold, "gold", member)
    for member, shadow in enumerate(stages.shadow_stages(study)):
        yield shared(shadow, "shadow", member)
    if start != base:
        yield shared(start, "corrupted base", after=base)
    if prepared:
        yield shared(prepared, "preparation", after=start)
