"""`unlearn search`: look for the settings with the best value of a metric, each tried on every seed that is given.

Optuna proposes (its TPE sampler; with several metrics the result is a Pareto front) and our own sweeps carry out, since
no sweeper of Hydra 1.3 works as installed today: see docs/sweeps.md. The same command proposes the same settings again
and takes their runs from the cache; with more trials it goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from unlearn_cli import overrides as words
from unlearn_cli.check import Cell, Sweep, check
from unlearn_cli.cli import config_dir, say
from unlearn_cli.command import Command, parse
from unlearn_cli.composition import Composer
from unlearn_cli.config import unknown
from unlearn_cli.errors import EXIT_FAILED, EXIT_OK, ConfigError, UnlearnError
from unlearn_cli.sweep.command import carry_out
from unlearn_cli.sweep.proposals import Direction, distribution, study_of
from unlearn_cli.sweep.record import SEARCH, Outcome, outcomes
from unlearn_cli.sweep.tracked import track

if TYPE_CHECKING:
    from optuna import Study

    from unlearn_cli.experiment import Experiment

REPEATED = ("seed", "replica")  # several values of these are runs of one trial, whose value is their mean
EXAMPLE = (
    "For example: --minimize gap_average/mean method=npo method.beta=interval(0.5,5) seed=0,1,2; see docs/sweeps.md."
)
SHOWN = 5  # best trials in the summary


@dataclass(frozen=True)
class Trial:
    """One setting, and what came of it."""

    number: int
    settings: dict[str, Any]
    values: list[float]  # of the metrics, mean over its runs; empty if it failed
    error: str | None
    folders: list[str]  # of its runs


def main(argv: Sequence[str]) -> int:
    """Carry out a search; the best settings go to stdout, its folder is the last line."""
    said = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="unlearn search", description=said, epilog=EXAMPLE)
    parser.add_argument(
        "--minimize", action="append", default=[], metavar="KEY", help="of result.json; may be repeated"
    )
    parser.add_argument("--maximize", action="append", default=[], metavar="KEY", help="likewise")
    parser.add_argument("--trials", type=int, default=20, help="settings to try; 20")
    parser.add_argument("--at-once", type=int, default=4, help="settings proposed at a time; 4")
    parser.add_argument("--sampler-seed", type=int, default=0, help="of what is proposed; 0")
    given, rest = parser.parse_known_args(list(argv))
    problems = [
        f"--{name}: {value} given; expected a number >= 1"
        for name, value in (("trials", given.trials), ("at-once", given.at_once))
        if value < 1
    ]
    problems += [f"--maximize: {key} given; it is minimized too" for key in given.maximize if key in given.minimize]
    if not given.minimize and not given.maximize:
        problems.append("--minimize, --maximize: nothing given; expected a metric, as in --minimize gap_average/mean")
    directions: dict[str, Direction] = dict.fromkeys(given.minimize, "minimize") | dict.fromkeys(
        given.maximize, "maximize"
    )
    search = _Search(parse(rest, config_dir()), directions, problems)
    return search.carry_out(study_of(directions, given.sampler_seed), given.trials, given.at_once)


_Checked = tuple[dict[int, list[Cell]], dict[int, str], Sweep | None]


class _Search:
    """What is searched, and what became of the trials so far."""

    def __init__(self, command: Command, directions: Mapping[str, Direction], problems: Sequence[str]) -> None:
        parsed, unreadable = words.parse(command.overrides, Composer(command))
        searched = [item for item in parsed if item.is_sweep_override() and item.key_or_group not in REPEATED]
        told = [*problems, *command.problems, *unreadable]
        if not searched and not unreadable:
            example = "'method.lr=tag(log,interval(1e-5,1e-3))' or method.steps=20,50"
            told.append(f"nothing to search: give a field several values, as in {example}")
        if told:
            raise ConfigError(told)
        self.flags, self.metrics, self.directions = command.flags, list(directions), directions
        self.searched, self.fixed = searched, [item.input_line or "" for item in parsed if item not in searched]
        self.folder: Path | None = None
        self.trials: list[Trial] = []
        self.found: list[Outcome] = []  # of every run
        self.experiment: Experiment | None = None  # of one of them

    def carry_out(self, study: Study, trials: int, at_once: int) -> int:
        """Ask, run, tell, until there are as many trials as wanted."""
        import optuna

        space = {item.get_key_element(): distribution(item) for item in self.searched}
        while len(self.trials) < trials:
            asked = [study.ask(space) for _ in range(min(at_once, trials - len(self.trials)))]
            status = self._run({trial.number: trial.params for trial in asked})
            if status > 128:
                return status
            for trial, done in zip(asked, self.trials[-len(asked) :], strict=True):
                failed = None if done.values else optuna.trial.TrialState.FAIL
                study.tell(trial, done.values or None, failed)
                print(_line(done), file=sys.stderr)
        assert self.folder is not None and self.experiment is not None
        track(self.folder, self.found, self.experiment, {})
        good = [trial for trial in self.trials if trial.values]
        best = {trial.number for trial in study.best_trials} if good else set()
        say("\n".join([" ".join(self.metrics), *(_line(trial) for trial in self._ranked(good, best))]))
        say(str(self.folder))
        return EXIT_OK if len(good) == len(self.trials) else EXIT_FAILED

    def _ranked(self, good: Sequence[Trial], best: set[int]) -> list[Trial]:
        """The best few by one metric, the front of several."""
        if len(self.metrics) > 1:
            return [trial for trial in good if trial.number in best]
        sign = 1 if self.directions[self.metrics[0]] == "minimize" else -1
        return sorted(good, key=lambda trial: sign * trial.values[0])[:SHOWN]

    def _run(self, asked: Mapping[int, dict[str, Any]]) -> int:
        """Carry out a batch of trials as one sweep, and note what came of each."""
        cells, refused, sweep = self._checked(asked)
        found: list[Outcome] = []
        status = EXIT_FAILED
        if sweep is not None:
            self.folder = self.folder or sweep.folder
            self._write()  # from here on its runs are known to belong to a search
            place = self.folder / f"batch-{min(asked)}"
            batch = replace(sweep, folder=place, slurm=replace(sweep.slurm, wait=True))
            flat = [cell for group in cells.values() for cell in group]
            with contextlib.redirect_stdout(sys.stderr):
                status = carry_out(batch, flat, self.flags, config_dir(), tracked=False)
            if status > 128:
                return status
            self.experiment = self.experiment or next(cell.experiment for cell in flat if cell.experiment)
            found = [_below(place.name, one) for one in outcomes(place)]
            self.found += found
        for number, settings in asked.items():
            mine, found = found[: len(cells.get(number, ()))], found[len(cells.get(number, ())) :]
            values, error = self._values(mine) if mine else ([], refused[number])
            self.trials.append(Trial(number, settings, values, error, [one.entry.folder for one in mine]))
        self._write()
        return status

    def _checked(self, asked: Mapping[int, dict[str, Any]]) -> _Checked:
        """The runs of each trial, why others are refused, and how sweeps are carried out, None if all are refused.

        Raises if that is so before anything has run: then the command is wrong rather than a trial.
        """
        cells: dict[int, list[Cell]] = {}
        refused: dict[int, ConfigError] = {}
        sweep = None
        for number, settings in asked.items():
            chosen = [f"{key}={value}" for key, value in settings.items()]
            try:
                checked = check(parse(["-m", *self.flags, *self.fixed, *chosen], config_dir()))
            except ConfigError as error:
                refused[number] = error
                continue
            if checked.sweep is None:
                raise ConfigError(["hydra/launcher, hydra/sweeper: given; a search carries out its runs by itself"])
            sweep = checked.sweep
            cells[number] = [_placed(cell, number, chosen) for cell in checked.cells]
        if sweep is None and self.folder is None:
            raise next(iter(refused.values()))
        return cells, {number: "; ".join(error.problems) for number, error in refused.items()}, sweep

    def _values(self, found: Sequence[Outcome]) -> tuple[list[float], str | None]:
        """Mean of each metric over the runs of a trial, or why there is none."""
        readings = []
        for one in found:
            if one.state != "ok" or one.result is None:
                return [], f"{one.state}: {one.error}"
            flat, known = one.result.flat(), one.result.metrics
            for key in self.metrics:
                if key in flat:
                    continue
                if key not in known:
                    raise UnlearnError(unknown(f"--{self.directions[key]} {key}", key, flat, "metrics of this search"))
                return [], f"{key}: {known[key]['reason']}"
            readings.append([flat[key] for key in self.metrics])
        return [fmean(column) for column in zip(*readings, strict=True)], None

    def _write(self) -> None:
        assert self.folder is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        told = {"metrics": dict(self.directions), "trials": [asdict(trial) for trial in self.trials]}
        draft = self.folder / f".{SEARCH}"
        draft.write_text(json.dumps(told, indent=1) + "\n")
        draft.replace(self.folder / SEARCH)


def _placed(cell: Cell, number: int, chosen: Sequence[str]) -> Cell:
    """A run of a trial, in the trial's folder and named by what the trial chose."""
    return replace(cell, folder=f"{number}/{cell.folder}", label=" ".join(filter(None, [*chosen, cell.label])))


def _below(batch: str, found: Outcome) -> Outcome:
    """The same, its folder seen from the search's."""
    return replace(found, entry=replace(found.entry, folder=f"{batch}/{found.entry.folder}"))


def _line(trial: Trial) -> str:
    chosen = " ".join(f"{key}={value}" for key, value in trial.settings.items())
    told = " ".join(f"{value:.4g}" for value in trial.values) if trial.values else f"failed: {trial.error}"
    return f"trial {trial.number}: {told}  {chosen}"
