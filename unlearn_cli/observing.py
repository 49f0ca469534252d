"""Take the observations that the metrics of a run want, each from a copy of the model, each an artifact of its own."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unlearn_cli import stages
from unlearn_cli.cache import Artifact, Stage, StorageError
from unlearn_cli.evaluation import Absent, Arrays, Role
from unlearn_cli.machine import Numerics
from unlearn_cli.observations.base import Observation, Scene, Unobservable
from unlearn_cli.study import Study
from unlearn_cli.worlds.wording import NoRoles

if TYPE_CHECKING:
    from torch.nn import Module

log = logging.getLogger(__name__)

ARRAYS = "arrays.npz"

Models = Mapping[Role, Sequence[Artifact]]
Observed = dict[tuple[Role, Observation], tuple[Artifact | Absent, ...]]
Ensure = Callable[[Stage, Callable[[Path], dict[str, Any]]], Artifact]  # take a stage from the cache or make it


@dataclass
class Observer:
    """Observes every model of a run; an error in one observation costs the metrics that read it, and no other."""

    study: Study
    ensure: Ensure
    observed: Observed = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)  # digest of an observation that ended in an error -> error

    def __post_init__(self) -> None:
        self.loader = _Loader(self.study.numerics)

    def observe(self, models: Models) -> None:
        """Fill `observed` and `failed`."""
        for observation in stages.observations(self.study):
            beside = {role: models[role][0] for role in observation.beside if models.get(role)}
            for role in observation.roles:
                found = [self._one(observation, model, beside) for model in models.get(role, ())]
                self.observed[role, observation] = tuple(found)

    def made(self) -> list[dict[str, Any]]:
        """The observations as they are listed in `result.json`."""
        artifacts = [item for found in self.observed.values() for item in found if isinstance(item, Artifact)]
        return [
            {"label": item.manifest["label"], "digest": item.digest, "cached": item.cached, "seconds": item.seconds}
            for item in artifacts
        ]

    def _one(self, observation: Observation, model: Artifact, beside: Mapping[Role, Artifact]) -> Artifact | Absent:
        others = [stage_of(other) for other in beside.values()]
        stage = stages.observe_stage(self.study, observation, stage_of(model), others)
        try:
            return self.ensure(stage, partial(_observe, self.study, observation, model, beside, self.loader))
        except StorageError:
            raise
        except Exception as error:
            log.exception("%s failed", stage.label)
            self.failed[stage.digest] = f"{type(error).__name__}: {error}"
            return Absent(self.failed[stage.digest], failed=True)


class _Loader:
    """Reads checkpoints, and hands out copies; keeps the last one read."""

    def __init__(self, numerics: Numerics) -> None:
        self.numerics = numerics
        self.kept: tuple[tuple[Path, bool], Module] | None = None

    def fresh(self, model: Artifact, guarded: bool) -> Any:
        """A copy of the model, behind its guard if it has one and `guarded`."""
        from unlearn_cli.guards.store import load_if_guarded
        from unlearn_cli.models import checkpoint

        key = (model.path, guarded)
        if self.kept is None or self.kept[0] != key:
            read: Any = load_if_guarded if guarded else checkpoint.load
            self.kept = key, read(model.path, *self.numerics.places)
        return copy.deepcopy(self.kept[1])


def _observe(
    study: Study,
    observation: Observation,
    model: Artifact,
    beside: Mapping[Role, Artifact],
    loader: _Loader,
    folder: Path,
) -> dict[str, Any]:
    """Observe a copy of one model; what cannot be observed leaves its reason."""
    import torch

    from unlearn_cli.machine import require

    require(study.numerics)
    torch.set_num_threads(study.numerics.threads)
    scene = scene_of(study, {role: loader.fresh(other, guarded=False) for role, other in beside.items()})
    try:
        arrays: dict[str, Any] = dict(observation.observe(loader.fresh(model, observation.guarded), scene))
    except (Unobservable, NoRoles) as reason:
        return {"reason": str(reason)}
    np.savez(folder / ARRAYS, **arrays)
    return {}


def scene_of(study: Study, beside: Mapping[Role, Any] | None = None) -> Scene:
    """What surrounds the models of a run."""
    return Scene(
        world=study.world,
        request=study.request,
        pool=study.pool,
        probes=study.probes,
        seed=study.experiment.seed,
        batch_size=study.experiment.evaluate.batch_size,
        numerics=study.numerics,
        beside=beside or {},
    )


def read_observation(found: Artifact | Absent) -> Arrays | Absent:
    """The arrays of an observation, or why there are none."""
    if isinstance(found, Absent):
        return found
    if "reason" in found.manifest["extra"]:
        return Absent(found.manifest["extra"]["reason"])
    with np.load(found.path / ARRAYS, allow_pickle=False) as arrays:
        return dict(arrays)


def stage_of(artifact: Artifact) -> Stage:
    """The stage that made an artifact."""
    manifest = artifact.manifest
    return Stage(manifest["stage"], manifest["label"], manifest["inputs"])
