"""What the processes of a sweep are asked to do: one run, or a stage that several runs share."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from hydra.core.override_parser.types import Quote, QuotedString

from unlearn_cli.errors import EXIT_FAILED, EXIT_OK, UnlearnError
from unlearn_cli.experiment import Experiment

MULTIRUN = ("-m", "--multirun")


def run_cell(overrides: Sequence[str], flags: Sequence[str], conf: Path, folder: Path) -> int:
    """Carry out one run of a sweep in its folder; the exit status is that of the same run alone."""
    from unlearn_cli.cli import hand_to_hydra

    place = QuotedString(str(folder), Quote.double).with_quotes()
    words = [*overrides, "hydra.mode=RUN", f"hydra.run.dir={place}"]
    return hand_to_hydra([flag for flag in flags if flag not in MULTIRUN], words, conf)


def make_shared(experiment: Experiment, member: int | None) -> int:
    """Train the base, or the gold model `member`, into the cache."""
    from unlearn_cli import builders, stages
    from unlearn_cli.cache import Cache
    from unlearn_cli.study import Study

    study = Study.of(experiment)
    if member is None:
        stage, build = stages.base_stage(study), partial(builders.build_base, study, builders.Watch())
    else:
        stage, build = (
            stages.gold_stage(study, member),
            partial(builders.build_gold, study, member, builders.Watch()),
        )
    try:
        Cache(Path(experiment.paths.cache)).ensure(stage, build)
    except UnlearnError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK
