"""What the processes of a sweep are asked to do: one run, or a stage that several runs share."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.override_parser.types import Quote, QuotedString

from unlearn_cli.cache import Artifact, Cache
from unlearn_cli.errors import EXIT_FAILED, EXIT_OK, UnlearnError
from unlearn_cli.experiment import Experiment
from unlearn_cli.sweep.record import forget

if TYPE_CHECKING:
    from unlearn_cli.study import Study

MULTIRUN = ("-m", "--multirun")


def run_cell(overrides: Sequence[str], flags: Sequence[str], conf: Path, folder: Path) -> int:
    """Carry out one run of a sweep in its folder; the exit status is that of the same run alone."""
    from unlearn_cli.cli import run_one

    forget(folder)  # if this attempt is killed, the result of an earlier one must not stand for it
    place = QuotedString(str(folder), Quote.double).with_quotes()
    words = [*overrides, "hydra.mode=RUN", f"hydra.run.dir={place}"]
    return run_one([flag for flag in flags if flag not in MULTIRUN], words, conf)


def make_shared(experiment: Experiment, stage: str, member: int) -> int:
    """Make a model that several runs share, `member` of those of its stage, into the cache."""
    from unlearn_cli.study import Study

    try:
        _made(Study.of(experiment), Cache(Path(experiment.paths.cache)), stage, member)
    except UnlearnError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


def _made(study: Study, cache: Cache, name: str, member: int = 0) -> Artifact:
    """From the cache, or made from what is in the cache or made."""
    from unlearn_cli import builders, stages

    watch = builders.Watch()
    if name == "train":
        return cache.ensure(stages.base_stage(study), partial(builders.build_base, study, watch))
    if name == "gold":
        return cache.ensure(stages.gold_stage(study, member), partial(builders.build_gold, study, member, watch))
    if name == "shadow":
        return cache.ensure(stages.shadow_stage(study, member), partial(builders.build_shadow, study, member, watch))
    if name == "corrupt" and (corrupted := stages.corrupt_stage(study)):
        return cache.ensure(corrupted, partial(builders.build_corrupt, study, _made(study, cache, "train"), watch))
    if name == "prepare" and (prepared := stages.prepare_stage(study)):
        start = _made(study, cache, stages.start_stage(study).name)
        return cache.ensure(prepared, partial(builders.build_prepare, study, start, watch))
    raise ValueError(f"no model of a run is made by a stage {name}")
