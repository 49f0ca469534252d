"""One run: build the world, resolve the request, train, retrain the gold, edit, evaluate, write.

`run` is the whole program without its command line: tests, notebooks and the CLI call it alike. It never raises for a
failure while running; the result says what happened.
"""

from __future__ import annotations

import errno
import json
import logging
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from unlearn_cli import builders, machine, provenance, stages
from unlearn_cli.builders import Watch
from unlearn_cli.cache import Artifact, Cache, Stage
from unlearn_cli.config import plain
from unlearn_cli.errors import EXIT_FAILED, Interrupted, UnlearnError
from unlearn_cli.evaluation import Role
from unlearn_cli.experiment import Experiment
from unlearn_cli.headroom import explained, room_for_two
from unlearn_cli.observing import Observer, stage_of
from unlearn_cli.results import Result
from unlearn_cli.study import Study
from unlearn_cli.sweep.tracked import group_of
from unlearn_cli.tracking import Tracker
from unlearn_cli.worker import gold_beside
from unlearn_cli.worlds.text.told import write_facts

log = logging.getLogger(__name__)

RESULT = "result.json"
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES}  # a user's disk, no fault of the program's
RESUME_HINT = "finished stages are kept: the same command goes on from there"


def run(experiment: Experiment, run_dir: Path | None = None) -> Result:
    """Carry out one experiment and write its run folder; status and numbers are in the result."""
    run_dir = (run_dir or new_run_dir(experiment)).absolute()
    run_dir.mkdir(parents=True, exist_ok=True)
    choices = {group: experiment.chosen(group) for group in ("world", "edit", "model", "method", "train")}
    result = Result(
        choices=choices, seed=experiment.seed, replica=experiment.replica, name=experiment.name, run_dir=run_dir
    )
    result.provenance = provenance.collect(sys.argv)
    with _recorded(result):
        study = Study.of(experiment)
        tracker = experiment.logger.open(
            config=plain(experiment) | _identity(study, result),
            run_dir=run_dir,
            run_id=stages.evaluate_stage(study).digest,
            group=group_of(experiment.name, run_dir),
            tags=list(choices.values()),
        )
        bench = _Bench(study, result, tracker)
        try:
            _carry_out(study, bench)
            tracker.metrics(result.flat())
            result.status = "ok"
        finally:
            tracker.close(result.status)
    return result


def _identity(study: Study, result: Result) -> dict[str, Any]:
    """What a tracked run is compared by: the digest of each stage that `result.json` tells, and the commit."""
    made = (stages.base_stage, stages.corrupt_stage, stages.prepare_stage, stages.edit_stage, stages.evaluate_stage)
    digests: dict[str, Any] = {stage.name: stage.digest for stage in (of(study) for of in made) if stage}
    digests["gold"] = [stage.digest for stage in stages.gold_stages(study)]
    return {"digests": digests} | {name: result.provenance[name] for name in ("commit", "dirty")}


def _carry_out(study: Study, bench: _Bench) -> None:
    """The method section: what is done, in order."""
    bench.describe_request()
    beside = bench.gold_for_worker()
    with gold_beside(study.experiment, beside):
        base = bench.train()
    gold = bench.retrain(beside)
    edited = bench.edit(base, gold)
    models: dict[Role, Sequence[Artifact]] = {"base": [base], "edited": [edited], "gold": gold}
    models["shadow"] = bench.shadow()
    models["unlearned_shadow"] = bench.unlearned_shadow(models["shadow"])
    bench.evaluate({role: found for role, found in models.items() if found})
    bench.link({"base": base, "edited": edited} | {_gold_name(i): artifact for i, artifact in enumerate(gold)})


@dataclass
class _Bench:
    """The stages of one run: each is taken from the cache or made, and noted in the result."""

    study: Study
    result: Result
    tracker: Tracker
    cache: Cache = field(init=False)

    def __post_init__(self) -> None:
        self.cache = Cache(Path(self.study.experiment.paths.cache))

    def describe_request(self) -> None:
        """Write down which facts are to change, and what a reader must know about the pairing."""
        experiment, request = self.study.experiment, self.study.request
        self.result.request = self.study.summary()
        more = {} if request.new_object is not None else {"deducible": self.study.deducible.tolist()}
        _write_json(self.result.run_dir / "request.json", request.to_dict() | more)
        write_facts(self.study.world, request, self.result.run_dir / "facts.jsonl")
        self.result.notes += self.study.world.notes
        note = experiment.method.note(request.op)
        if note:
            self.result.notes.append(note)

    def gold_for_worker(self) -> list[int]:
        """Gold models worth training in a second process: none unless there is work for two and a core for each."""
        study, trainer = self.study, self.study.experiment.trainer
        alone = study.numerics.accelerator == "cpu" and study.numerics.ranks == 1
        if not (trainer.side_by_side and alone) or machine.cores() < 2:
            return []
        missing = [i for i, stage in enumerate(stages.gold_stages(study)) if not self.cache.find(stage)]
        single = len(missing) == 1 and self.cache.find(stages.base_stage(study)) is not None
        return missing if missing and not single and room_for_two(study) else []

    def train(self) -> Artifact:
        """Train the base, and teach it wrong objects for an edit that is to undo this."""
        base = self._stage(
            "train", stages.base_stage(self.study), partial(builders.build_base, self.study, self._watch())
        )
        corrupt = stages.corrupt_stage(self.study)
        build = partial(builders.build_corrupt, self.study, base, self._watch())
        return self._stage("corrupt", corrupt, build) if corrupt else base

    def retrain(self, beside: Sequence[int]) -> list[Artifact]:
        """Train the gold models; those in `beside` were made by a worker of this run."""
        return [self._gold(member, member in beside) for member in range(self.study.experiment.golds)]

    def shadow(self) -> list[Artifact]:
        """Train the shadow models that metrics ask for."""
        watch = Watch(self.study.experiment.trainer.progress)
        return [
            self._taken(stage, partial(builders.build_shadow, self.study, member, watch))
            for member, stage in enumerate(stages.shadow_stages(self.study))
        ]

    def unlearned_shadow(self, shadows: Sequence[Artifact]) -> list[Artifact]:
        """Let the method change a copy of each shadow, if metrics ask for it."""
        watch = Watch(self.study.experiment.trainer.progress)
        return [
            self._taken(stage, partial(builders.build_unlearned_shadow, self.study, member, shadows[member], watch))
            for member, stage in enumerate(stages.unlearned_shadow_stages(self.study))
        ]

    def edit(self, base: Artifact, gold: Sequence[Artifact]) -> Artifact:
        """Let the method change a copy of the base."""
        if "gold_fresh" in self.study.experiment.method.needs:
            gold = [self._gold(self.study.experiment.gold.n)]
        prepared = self._prepare(base)
        build = partial(builders.build_edit, self.study, base, gold, prepared, self._watch())
        edited = self._stage("edit", stages.edit_stage(self.study), build)
        told = edited.manifest["extra"]["notes"]
        for name, value in told.items():
            number = f"{value:.6g}" if isinstance(value, float) else value
            self.result.notes.append(f"{name.replace('_', ' ')}: {number}")
        return edited

    def evaluate(self, models: Mapping[Role, Sequence[Artifact]]) -> None:
        """Ask every model every probe, observe what the metrics want, then compute all metrics."""
        asked = {role: [self._predictions(model) for model in found] for role, found in models.items()}
        observer = Observer(self.study, self._taken)
        observer.observe(models)
        build = partial(builders.build_evaluation, self.study, models, asked, observer.observed)
        artifact = self._stage(
            "evaluate",
            stages.evaluate_stage(self.study, observer.failed),
            build,
            predictions=[artifact.digest for found in asked.values() for artifact in found],
            observations=observer.made(),
        )
        self.result.metrics = json.loads((artifact.path / "metrics.json").read_text())
        shutil.copyfile(artifact.path / "items.parquet", self.result.run_dir / "items.parquet")

    def link(self, models: dict[str, Artifact]) -> None:
        """Point from the run folder to the checkpoints, or copy them there."""
        for name, artifact in models.items():
            place = self.result.run_dir / name
            if place.is_symlink():  # of an earlier run into this folder; copying over it would write into the cache
                place.unlink()
            if self.study.experiment.paths.link == "copy":
                _copy(artifact.path, place)
            elif place.exists():
                raise UnlearnError(f"{place} is in the way of a link of that name: move it, or use another run folder")
            else:
                place.symlink_to(artifact.path, target_is_directory=True)

    def _predictions(self, model: Artifact) -> Artifact:
        stage = stages.predict_stage(self.study, stage_of(model))
        return self._taken(stage, partial(builders.build_predictions, self.study, model))

    def _taken(self, stage: Stage, build: Callable[[Path], dict[str, Any]]) -> Artifact:
        """A part of the evaluation, from the cache or made."""
        with _failing_in(self.result, "evaluate"), self._explained(stage.name):
            self.cache.add_reference(stage.digest, self.result.run_dir)
            return self.cache.ensure(stage, build)

    def _prepare(self, base: Artifact) -> Artifact | None:
        stage = stages.prepare_stage(self.study)
        build = partial(builders.build_prepare, self.study, base, self._watch())
        return self._stage("prepare", stage, build) if stage else None

    def _gold(self, member: int, beside: bool = False) -> Artifact:
        stage = stages.gold_stage(self.study, member)
        artifact = self._ensure("gold", stage, partial(builders.build_gold, self.study, member, self._watch()))
        self.result.add_gold(artifact, member, cached=artifact.cached and not beside)
        return artifact

    def _stage(self, name: str, stage: Stage, build: Callable[[Path], dict[str, Any]], **more: Any) -> Artifact:
        artifact = self._ensure(name, stage, build)
        self.result.add_stage(name, artifact, **more)
        return artifact

    def _ensure(self, name: str, stage: Stage, build: Callable[[Path], dict[str, Any]]) -> Artifact:
        """Take a stage from the cache or make it; curves that nobody saw live are logged afterwards."""
        with _failing_in(self.result, name), self._explained(name):
            self.cache.add_reference(stage.digest, self.result.run_dir)
            artifact = self.cache.ensure(stage, build)
        if artifact.cached:
            self.tracker.curve(name, builders.read_curves(artifact))
        return artifact

    @contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        """Tell of what the machine lacks with the settings that help."""
        with explained(self.study, name), machine.float64_wanted(self.study.numerics, name):
            yield

    def _watch(self) -> Watch:
        return Watch(self.study.experiment.trainer.progress, self.tracker.lightning)


def _copy(source: Path, place: Path) -> None:
    """Copy a folder whole, or leave nothing of it and say why."""
    try:
        shutil.copytree(source, place, dirs_exist_ok=True)
    except OSError as error:  # shutil.Error, one of them, lists the files; each has its reason last
        shutil.rmtree(place, ignore_errors=True)
        reason = error.args[0][0][-1] if isinstance(error, shutil.Error) else error
        raise UnlearnError(f"{place} cannot be written: {reason}; paths.link=symlink copies nothing") from None


@contextmanager
def _recorded(result: Result) -> Iterator[None]:
    """Turn whatever ends the run into a status, and write `result.json` in every case."""
    try:
        yield
    except UnlearnError as error:
        log.error("%s", error)
        result.fail(error, EXIT_FAILED)
    except (Interrupted, KeyboardInterrupt) as error:
        interrupt = error if isinstance(error, Interrupted) else Interrupted()
        log.error("interrupted; %s", RESUME_HINT)
        result.interrupt(interrupt.exit_status)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            log.error("%s", error)
        else:
            log.exception("unexpected error")
        result.fail(error, EXIT_FAILED)
    try:
        result.write(result.run_dir / RESULT)
    except OSError as error:
        log.error("%s cannot be written: %s", result.run_dir / RESULT, error)
        result.fail(error, EXIT_FAILED)


@contextmanager
def _failing_in(result: Result, stage: str) -> Iterator[None]:
    """Note the stage in which an error arises."""
    result.stage = stage
    yield
    result.stage = None


def describe(experiment: Experiment) -> list[str]:
    """Say of each stage its digest, whether it is cached, and its folder; does nothing."""
    study = Study.of(experiment)
    cache = Cache(Path(experiment.paths.cache))
    lines = []
    for stage in stages.all_stages(study):
        state = "hit " if cache.find(stage) else "miss"
        lines.append(f"{stage.name:<9} {stage.digest}  {state}  {cache.folder(stage)}")
    return lines


def new_run_dir(experiment: Experiment) -> Path:
    """A new folder under `paths.runs`, named by time, world, method and seed."""
    now = datetime.now()
    what = f"{experiment.chosen('world')}_{experiment.chosen('method')}_s{experiment.seed}"
    name = f"{now:%H-%M-%S}_{what}_{uuid.uuid4().hex[:6]}"
    return Path(experiment.paths.runs).expanduser() / f"{now:%Y-%m-%d}" / name


def _gold_name(member: int) -> str:
    return "gold" if member == 0 else f"gold-{member}"


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1))
