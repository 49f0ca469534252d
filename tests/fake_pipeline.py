"""Stands in for `unlearn_cli.pipeline` in tests of the command line: `name` says what becomes of a run."""

from __future__ import annotations

import logging
import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path

from fake_result import fake_result

from unlearn_cli.errors import Interrupted, UnlearnError
from unlearn_cli.experiment import Experiment

log = logging.getLogger(__name__)


@dataclass
class Result:
    """As much of a result as the command line reads."""

    run_dir: Path
    exit_status: int
    text: str

    def table(self) -> str:
        """One row."""
        return self.text


def run(experiment: Experiment, run_dir: Path) -> Result:
    """End as the experiment's name says: fail, refuse, bug, interrupted or well."""
    log.info("running seed %d", experiment.seed)
    text = f"| {experiment.chosen('method')} | {experiment.chosen('world')} | seed {experiment.seed} |"
    fails = experiment.name == "fail" or (experiment.name == "odd seeds fail" and experiment.seed % 2)
    _write(experiment, run_dir, fails)
    if experiment.name == "bug":
        raise ZeroDivisionError("a bug of ours")
    if experiment.name == "raise":
        raise UnlearnError("The cache is damaged.")
    if experiment.name == "wait":
        print(os.environ["OMP_WAIT_POLICY"], signal.getsignal(signal.SIGTERM).__name__, flush=True)
        try:
            time.sleep(30)
        except Interrupted as error:
            return Result(run_dir, error.exit_status, "interrupted")
    return Result(run_dir, 1 if fails else 0, text)


def _write(experiment: Experiment, run_dir: Path, fails: bool) -> None:
    """The result of a run; one that breaks off leaves none."""
    if experiment.name in ("bug", "raise", "wait"):
        return
    result = replace(fake_result(), run_dir=run_dir, seed=experiment.seed)
    if fails:
        result.fail(UnlearnError("as told"))
    result.write(run_dir / "result.json")


def describe(experiment: Experiment) -> list[str]:
    """One line for one stage."""
    return [f"train  {experiment.chosen('method')}  seed {experiment.seed}"]
