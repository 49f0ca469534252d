"""How each stage is made: every builder fills one artifact folder and returns what its manifest keeps.

torch is imported inside, so that a run whose stages are all cached never pays for it.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unlearn_cli.cache import Artifact
from unlearn_cli.evaluation import Cost, Evaluation, Role
from unlearn_cli.headroom import announce
from unlearn_cli.observing import Observed, read_observation
from unlearn_cli.stages import base_purpose, given_gold, gold_purpose, shadow_purpose
from unlearn_cli.study import Study
from unlearn_cli.training.recipe import NoTraining, Train
from unlearn_cli.training.together import together
from unlearn_cli.unlearned_shadow import shadow_study

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger as LightningLogger
    from transformers import PreTrainedModel

    from unlearn_cli.editing import Given
    from unlearn_cli.methods.base import EditReport
    from unlearn_cli.training.loop import Row, Runtime
    from unlearn_cli.training.ranks import Crew
    from unlearn_cli.worlds.base import WorldData

CURVES = "curves.csv"
PREDICTIONS = "predictions.npz"
Extra = dict[str, Any]


@dataclass(frozen=True)
class Watch:
    """Who watches a stage that runs in this process, and who makes it together with this process."""

    progress: bool = False
    logger: Callable[[], LightningLogger | None] | None = None  # called by the stages that do run: it imports torch
    crew: Crew | None = None  # all ranks of the stage; None: this process alone
    folder: Path | None = None  # the artifact's, for ranks that are given another one

    def runtime(self, stage: str, study: Study, folder: Path) -> Runtime:
        """A runtime for one stage, which leaves in the artifact's folder what lets it go on after an interruption."""
        from unlearn_cli.cache.removal import RESUME
        from unlearn_cli.training.loop import Runtime
        from unlearn_cli.training.ranks import ALONE
        from unlearn_cli.training.resume import Resume

        resume = Resume((self.folder or folder) / RESUME, study.experiment.trainer.checkpoint_seconds)
        logger = self.logger() if self.logger else None
        return Runtime(stage, study.numerics, self.progress, logger, resume=resume, crew=self.crew or ALONE)


def _trains(study: Study) -> bool:
    return isinstance(study.experiment.train, Train)


def _edits_in_the_loop(study: Study) -> bool:
    return study.experiment.method.loops


@together("train", _trains)
def build_base(study: Study, watch: Watch, folder: Path) -> Extra:
    """Train on the whole world, or take the checkpoint as it is."""
    if isinstance(study.experiment.train, NoTraining):
        world, experiment = study.world, study.experiment
        network = experiment.model.build(world.vocabulary.size, world.max_length, experiment.seed)
        return _keep(study, network, folder)
    purpose = base_purpose(study.experiment.replica)
    return _train(study, study.world, purpose, watch.runtime("train", study, folder), folder)


@together("corrupt", lambda study: True)
def build_corrupt(study: Study, base: Artifact, watch: Watch, folder: Path) -> Extra:
    """Fine-tune a copy of the base on wrong objects for the requested facts, with right facts mixed in."""
    import torch

    from unlearn_cli.machine import require
    from unlearn_cli.methods.base import EditContext
    from unlearn_cli.methods.ft import FT
    from unlearn_cli.models import checkpoint
    from unlearn_cli.streams import derive

    corruption = study.experiment.edit.corrupts()
    assert corruption is not None
    require(study.numerics)
    torch.set_num_threads(study.numerics.threads)
    runtime = watch.runtime("corrupt", study, folder)
    model = checkpoint.load(base.path, *study.numerics.places)
    data = study.corruption_data(corruption)
    mixed = {"retain_loss": "nll" if data.retain is not None else "none", "retain_batch": corruption.unrelated_batch}
    method = FT(steps=corruption.steps, lr=corruption.lr, **mixed)  # type: ignore[arg-type]
    report = method.edit(model, data, EditContext(runtime, derive(study.experiment.seed, "corrupt")))
    _save(model, study, runtime.curves, folder)
    return {"cost": _spent(report, model)} | _peak(runtime)


@together("gold", _trains)
def build_gold(study: Study, member: int, watch: Watch, folder: Path) -> Extra:
    """Train on the counterfactual world, from seeds of its own, or take the checkpoint that is named."""
    if given := given_gold(study):
        world = study.world
        return _keep(study, given.read(world.vocabulary.size, world.max_length, "gold.path"), folder)
    purpose = gold_purpose(member, study.experiment.replica)
    return _train(study, study.counterfactual, purpose, watch.runtime("gold", study, folder), folder)


@together("shadow", _trains)
def build_shadow(study: Study, member: int, watch: Watch, folder: Path) -> Extra:
    """Train on half of the subjects, from seeds of its own."""
    from unlearn_cli.worlds.shadow import shadow_world

    world = shadow_world(study.world, member)
    return _train(study, world, shadow_purpose(member), watch.runtime("shadow", study, folder), folder)


def build_prepare(study: Study, base: Artifact, watch: Watch, folder: Path) -> Extra:
    """Let the method make what it edits with, from the base and the retain facts."""
    import torch

    from unlearn_cli.machine import require
    from unlearn_cli.methods.base import EditContext
    from unlearn_cli.models import checkpoint

    require(study.numerics)
    torch.set_num_threads(study.numerics.threads)
    runtime = watch.runtime("prepare", study, folder)
    model = checkpoint.load(base.path, *study.numerics.places)
    context = EditContext(runtime, study.method_seed, folder)
    report = study.experiment.method.prepare(model, study.retain_data(), context)
    _write_curves(runtime.curves, folder)
    return {"cost": _spent(report, model), "notes": dict(report.notes)} | _peak(runtime)


@together("edit", _edits_in_the_loop)
def build_edit(
    study: Study, base: Artifact, gold: Sequence[Artifact], prepared: Artifact | None, watch: Watch, folder: Path
) -> Extra:
    """Hand the method a fresh copy of the base and the data it declares, request by request as scheduled."""
    from unlearn_cli.editing import Given

    given = Given(base.path, tuple(artifact.path for artifact in gold), prepared.path if prepared else None)
    return _edit(study, given, watch.runtime("edit", study, folder), folder)


@together("edit", _edits_in_the_loop)
def build_unlearned_shadow(study: Study, member: int, base: Artifact, watch: Watch, folder: Path) -> Extra:
    """Hand the method a shadow in the base's place, and what of the request and the retain pool it was taught."""
    from unlearn_cli.editing import Given

    own = shadow_study(study, member)
    assert own is not None  # where there is nothing to unlearn, the stage is the shadow's own
    return _edit(own, Given(base.path), watch.runtime("edit", study, folder), folder)


def _edit(study: Study, given: Given, runtime: Runtime, folder: Path) -> Extra:
    from unlearn_cli.editing import carry_out
    from unlearn_cli.guards import store as guards

    announce(study, runtime)
    model, report = carry_out(study, given, runtime, folder)
    if study.independent:  # there is no one edited model to keep
        _write_curves(runtime.curves, folder)
    else:
        _save(model, study, runtime.curves, folder)
        if report.guard is not None:
            guards.save(report.guard, folder)
    return {"cost": _spent(report, model), "notes": dict(report.notes)} | _peak(runtime)


def build_predictions(study: Study, model: Artifact, folder: Path) -> Extra:
    """Ask one model every probe; where each request has its own edited model, they were asked when they were made."""
    if model.manifest["stage"] == "edit" and study.independent:
        shutil.copyfile(model.path / PREDICTIONS, folder / PREDICTIONS)
        return {}
    import torch

    from unlearn_cli import predict
    from unlearn_cli.guards.store import load_if_guarded
    from unlearn_cli.machine import require

    require(study.numerics)
    torch.set_num_threads(study.numerics.threads)
    network = load_if_guarded(model.path, *study.numerics.places)
    answers = predict.predict(network, study.world, study.probes, study.experiment.evaluate.batch_size)
    predict.save(answers, folder / PREDICTIONS)
    return {}


def build_evaluation(
    study: Study,
    models: Mapping[Role, Sequence[Artifact]],
    asked: Mapping[Role, Sequence[Artifact]],
    seen: Observed,
    folder: Path,
) -> Extra:
    """Compute every metric from stored predictions, observations, weights and costs."""
    from unlearn_cli import predict
    from unlearn_cli.metrics.run import compute_all
    from unlearn_cli.results import entry, write_items

    evaluation = Evaluation(
        probes=study.probes,
        predictions={role: tuple(predict.load(a.path / PREDICTIONS) for a in found) for role, found in asked.items()},
        checkpoints={
            role: tuple(a.path for a in found)
            for role, found in models.items()
            if not (role == "edited" and study.independent)
        },
        costs={role: tuple(_cost(a) for a in found) for role, found in models.items()},
        bootstrap=study.experiment.bootstrap,
        observed={key: tuple(map(read_observation, found)) for key, found in seen.items()},
        membership=_membership(study, len(models.get("shadow", ()))),
    )
    values = compute_all(study.experiment.metric, evaluation)
    (folder / "metrics.json").write_text(json.dumps({name: entry(value) for name, value in values.items()}, indent=1))
    write_items(values, study.probes, folder / "items.parquet")
    return {}


def _membership(study: Study, shadows: int) -> NDArray[np.bool_] | None:
    """Whether each shadow was trained on each probe's fact [K, N]."""
    from unlearn_cli.worlds.shadow import members

    return np.stack([members(study.world, i)[study.probes.fact] for i in range(shadows)]) if shadows else None


def block_parameters(model: PreTrainedModel) -> int:
    """Parameters without embeddings and output layer."""
    outer = {id(model.get_input_embeddings().weight), id(model.get_output_embeddings().weight)}
    return sum(p.numel() for p in model.parameters() if id(p) not in outer)


def read_curves(artifact: Artifact) -> list[dict[str, float]]:
    """The learning curves that a stage left, one row per step."""
    return curves_of(artifact.path)


def curves_of(folder: Path) -> list[dict[str, float]]:
    """The same from a stage's folder."""
    path = folder / CURVES
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


def _train(study: Study, world: WorldData, purpose: tuple[str | int, ...], runtime: Runtime, folder: Path) -> Extra:
    from unlearn_cli.training.fit import fit

    experiment = study.experiment
    assert isinstance(experiment.train, Train)
    announce(study, runtime)
    fitted = fit(experiment.model, world, experiment.train, purpose, runtime)
    _save(fitted.model, study, runtime.curves, folder)
    np.save(folder / "ledger.npy", fitted.ledger)  # statements and questions shown of each fact
    parameters = sum(p.numel() for p in fitted.model.parameters())
    cost = {
        "steps": fitted.steps,
        "forward_tokens": fitted.tokens,
        "backward_tokens": fitted.tokens,
        "trainable_parameters": parameters,
        "parameters": block_parameters(fitted.model),
    }
    return {"cost": cost, "recall": fitted.recall, "facts_sha256": world.facts.sha256()} | _peak(runtime)


def _keep(study: Study, network: PreTrainedModel, folder: Path) -> Extra:
    """Keep a checkpoint as it is, at no cost of ours."""
    _save(network, study, [], folder)
    nothing = dict.fromkeys(("steps", "forward_tokens", "backward_tokens", "trainable_parameters"), 0)
    return {"cost": nothing | {"parameters": block_parameters(network)}}


def _save(model: PreTrainedModel, study: Study, curves: list[Row], folder: Path) -> None:
    from unlearn_cli.models import checkpoint

    checkpoint.save(model, study.world.vocabulary, folder)
    _write_curves(curves, folder)


def _write_curves(curves: list[Row], folder: Path) -> None:
    if curves:
        names = list(dict.fromkeys(name for row in curves for name in row))
        with (folder / CURVES).open("w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(curves)


def _spent(report: EditReport, model: PreTrainedModel) -> dict[str, int]:
    return {
        "steps": report.steps,
        "forward_tokens": report.forward_tokens,
        "backward_tokens": report.backward_tokens,
        "trainable_parameters": report.trainable_parameters,
        "parameters": block_parameters(model),
    }


def _cost(artifact: Artifact) -> Cost:
    return Cost(artifact.seconds, artifact.peak_memory_bytes, **artifact.manifest["extra"]["cost"])


def _peak(runtime: Runtime) -> Extra:
    """Peak memory of the accelerator, of all that the model lies on; on a CPU the manifest keeps the process's own."""
    import torch

    if runtime.numerics.accelerator != "cuda":
        return {}
    return {"peak_memory_bytes": sum(map(torch.cuda.max_memory_allocated, runtime.numerics.places))}
