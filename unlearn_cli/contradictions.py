"""What contradicts in an experiment whose parts are right by themselves; each is told before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unlearn_cli.blocks_asked import block_problems
from unlearn_cli.errors import ConfigError
from unlearn_cli.folders import why_not_made
from unlearn_cli.methods.checkpoint import Checkpoint
from unlearn_cli.models.folder import foreign
from unlearn_cli.models.pretrained import misfits
from unlearn_cli.neighbourhood import MUST_NOT_CHANGE, neighbourhoods, retain_pool
from unlearn_cli.streams import generator
from unlearn_cli.training.recipe import NoTraining, Train
from unlearn_cli.worlds.built import Built
from unlearn_cli.worlds.text.base import TextWorld

if TYPE_CHECKING:
    from unlearn_cli.experiment import Experiment
    from unlearn_cli.worlds.base import WorldData
    from unlearn_cli.worlds.request import EditRequest


def contradictions(experiment: Experiment, built: Built) -> list[str]:
    """Every one of them; builds the world, which is quick."""
    problems = [*_between_components(experiment), *_unreadable(experiment), *_unwritable(experiment)]
    try:
        world = built(experiment.world, experiment.seed)
        problems += _too_short(experiment, world)
        problems += _misfits(experiment, world)
        problems += [] if problems else block_problems(experiment, world)
        request = experiment.edit.resolve(world, generator(0, "edit"))  # which facts are drawn does not matter here
        problems += _nothing_to_keep(experiment, world, request)
    except ConfigError as error:
        problems += error.problems
    return problems


def _between_components(experiment: Experiment) -> list[str]:
    method, problems = experiment.method, []
    name, op = experiment.chosen("method"), experiment.edit.op
    if op not in method.takes:
        problems.append(
            f"method: {name} takes {', '.join(sorted(method.takes))} edits; edit={experiment.chosen('edit')} is {op}"
        )
    problems += _untrained(experiment)
    if "gold" in method.needs and not experiment.golds:
        untrained = isinstance(experiment.train, NoTraining)
        way = "gold.path=<a model that never saw them>, or train=finetune gold.n=1" if untrained else "at least 1"
        problems.append(f"gold.n: 0 given; method={name} needs a gold model: {way}")
    problems += _out_of_schedule(experiment)
    problems += _undivided(experiment)
    problems += _unspread(experiment)
    if "retain" in method.needs and experiment.retain.pool == 0:
        problems.append(f"retain.pool: 0 given; method={name} needs retain facts, so more than 0")
    if experiment.evaluate.level >= 1:
        problems.append(f"evaluate.level: {experiment.evaluate.level} given; expected a number between 0 and 1")
    return problems


def _undivided(experiment: Experiment) -> list[str]:
    """What several devices cannot share, and what one has nothing to share of."""
    trainer, method, problems = experiment.trainer, experiment.method, []
    several = trainer.devices * trainer.num_nodes > 1
    if trainer.strategy != "auto" and not several:
        problems.append(
            f"trainer.strategy: '{trainer.strategy}' given; says how several devices share a model: trainer.devices or"
            " trainer.num_nodes of 2 or more, or 'auto'"
        )
    if trainer.strategy == "fsdp" and method.between_steps:
        name, what = experiment.chosen("method"), method.between_steps
        problems.append(f"trainer.strategy: 'fsdp' given; method={name} needs the whole model for {what}: 'ddp'")
    if trainer.accelerator == "mps" and several:
        problems.append(f"trainer.devices: {trainer.devices} given; trainer.accelerator=mps has one device")
    return problems


def _unspread(experiment: Experiment) -> list[str]:
    """What a model whose blocks lie on several devices rules out."""
    trainer, method, problems = experiment.trainer, experiment.method, []
    if experiment.model.device_map == "none":
        return []
    if trainer.devices * trainer.num_nodes > 1:
        problems.append(
            "model.device_map: 'auto' given; one process then has all devices: trainer.devices=1 trainer.num_nodes=1,"
            " or 'none' with trainer.strategy=fsdp"
        )
    reads = method.between_steps
    if not method.loops and method.needs & {"forget", "retain"}:
        reads = "the weights of several blocks"
    if reads:
        name = experiment.chosen("method")
        problems.append(f"model.device_map: 'auto' given; method={name} needs {reads} on one device: 'none'")
    return problems


def _untrained(experiment: Experiment) -> list[str]:
    """What contradicts a base that is taken as it is, or a gold that is."""
    problems, train, gold = [], experiment.train, experiment.gold
    if isinstance(train, NoTraining) and not experiment.model.trained:
        problems.append(f"train: none given; model={experiment.chosen('model')} has no weights before it is trained")
    if experiment.model.trained and isinstance(experiment.world, TextWorld) and experiment.world.tokenizer is None:
        problems.append("world.tokenizer: null given; the model at model.path reads tokens of its own: leave it out")
    if isinstance(train, NoTraining) and gold.n and not gold.path:
        problems.append(f"gold.n: {gold.n} given; with train=none nothing is trained: 0, or gold.path=<checkpoint>")
    if "gold_fresh" in experiment.method.needs and isinstance(train, NoTraining):
        name = experiment.chosen("method")
        problems.append(f"method: {name} retrains a gold, and with train=none there is no recipe for it")
    return problems


def _out_of_schedule(experiment: Experiment) -> list[str]:
    """What does not work request by request."""
    schedule, method, problems = experiment.edit.schedule, experiment.method, []
    if schedule != "batch" and {"gold", "gold_fresh"} & method.needs:
        allowed_ones = "'batch'"
    elif schedule == "sequential" and method.at_once:
        allowed_ones = "'batch' or 'independent'"
    else:
        allowed_ones = ""
    if allowed_ones:
        name = experiment.chosen("method")
        problems.append(f"edit.schedule: '{schedule}' given; method={name} takes all facts at once: {allowed_ones}")
    if schedule == "independent" and experiment.golds:
        problems.append(
            f"gold.n: {experiment.gold.n} given; with edit.schedule=independent every request has a gold of its own,"
            " which are not trained: 0"
        )
    return problems


def _too_short(experiment: Experiment, world: WorldData) -> list[str]:
    """A world whose facts have phases must be trained to the end of its deck."""
    if not isinstance(experiment.train, Train) or not world.has_phases:
        return []
    passes, most = world.deck().passes, experiment.train.max_passes
    if passes <= most:
        return []
    return [
        f"train.max_passes: {most:g} given; facts are shown in phases of a deck of {passes} passes, all of which are"
        f" trained: raise it, or lower world.exposure.mean or world.exposure.buckets"
    ]


def _misfits(experiment: Experiment, world: WorldData) -> list[str]:
    """Checkpoints must be able to read the world, and those beside the base must be other states of it."""
    problems, named = experiment.model.misfits(world), {"gold.path": experiment.gold.path}
    if isinstance(experiment.method, Checkpoint):
        named["method.path"] = experiment.method.path
    base = experiment.model.skeleton(world.vocabulary.size, world.max_length) if any(named.values()) else None
    for field, path in named.items():
        if path and base is not None:
            problems += misfits(path, world, field=field) or foreign(path, base, field)
    return problems


def _unreadable(experiment: Experiment) -> list[str]:
    """Checkpoints that fields name must be there before anything runs."""
    problems = []
    for read in (experiment.model.source, experiment.method.source, experiment.gold.source):
        try:
            read()
        except ConfigError as error:
            problems += error.problems
    return problems


def _unwritable(experiment: Experiment) -> list[str]:
    """Stages are kept under `paths.cache`, which must be there or be made."""
    why = why_not_made(Path(experiment.paths.cache).expanduser().absolute())
    return [f"paths.cache: {why}"] if why else []


def _nothing_to_keep(experiment: Experiment, world: WorldData, request: EditRequest) -> list[str]:
    """The user's files may name nothing that must stay, which most methods train on."""
    retain, name = experiment.retain, experiment.chosen("method")
    if world.given is None or "retain" not in experiment.method.needs:
        return []
    if len(retain_pool(world, request, retain.pool, retain.requested_subjects)):
        return []
    parts = neighbourhoods(world, request)
    if any(len(parts[part]) for part in MUST_NOT_CHANGE):
        told = f"{retain.pool:g} given; of the few facts that must stay, method={name} may use none: raise it"
        return [f"retain.pool: {told}, add rows to world.retain, or method.retain_loss=none where there is one"]
    advice = "give a file, or method.retain_loss=none where there is one"
    return [f"world.retain: method={name} needs facts that must stay: {advice}"]
