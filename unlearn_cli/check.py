"""Judge a whole command before anything runs: every name, type, range and contradiction, all told at once.

In a sweep a run that only contradicts itself (this method on that edit) is set aside, and the others can go on.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from unlearn_cli import overrides as words
from unlearn_cli.command import Command
from unlearn_cli.composition import Composer, choices, searched
from unlearn_cli.config import build, proposed
from unlearn_cli.devices import device_problems
from unlearn_cli.errors import ConfigError
from unlearn_cli.experiment import Experiment, parts
from unlearn_cli.folders import why_not_made
from unlearn_cli.settings import apply, is_listed, plain_values
from unlearn_cli.sweep.slurm import Slurm
from unlearn_cli.worlds.built import Built

_OF_SWEEPS = ("hydra.sweep", "hydra.run", "hydra.mode")  # what a run of a sweep is called with by the sweep


@dataclass(frozen=True)
class Cell:
    """One run of a command: what sets it apart from the others, and what it will do."""

    label: str  # empty for a single run
    overrides: list[str]  # what Hydra is to be given for this run alone
    experiment: Experiment | None  # None for a refused one
    folder: str = ""  # of the run, inside the sweep's
    refused: tuple[str, ...] = ()  # why it contradicts itself


@dataclass(frozen=True)
class Checked:
    """A command that can run. `overrides` are what Hydra is to be given."""

    overrides: list[str]
    cells: list[Cell]  # empty if there is nothing to run
    dry_run: bool = False
    sweep: Sweep | None = None  # None for a single run, and where Hydra's own plugins carry out the runs
    alone: bool = False  # a single run


@dataclass(frozen=True)
class Sweep:
    """How the runs of a sweep are carried out."""

    folder: Path
    parallel: int | None  # runs at a time on this machine; None: as many as it has room for
    slurm: Slurm  # the cluster that they are handed to, if any


def check(command: Command, commands: Sequence[str] = ()) -> Checked:
    """Return the runs that a command asks for; raises one ConfigError with every problem of all of them."""
    return _Check(command, commands).checked()


class _Check:
    """The problems found so far, and what is left of the command without them."""

    def __init__(self, command: Command, commands: Sequence[str]) -> None:
        self.command = command
        self.composer = Composer(command, searched(command))
        self.built = Built()
        self.unlisted: set[str] = set()  # fields that a class has and its yaml leaves out: Hydra wants ++ for them
        self.wrong: set[str] = set()  # groups whose option is unknown, so that their fields cannot be judged
        parsed, unreadable = words.parse(command.overrides, self.composer, commands)
        self.problems = [*command.problems, *unreadable]
        self.kept = self._named(parsed)

    def checked(self) -> Checked:
        """Carry out the rest of the check."""
        master, _ = self._composed([item for item in self.kept if not item.is_sweep_override()])
        sweeps = self.command.multirun or master.hydra.mode == RunMode.MULTIRUN
        params = self._named(self._parameters(master)) if sweeps else []
        if not sweeps:
            self._refuse_sweeps()
        made = self._judge_all(list(self._cells(master, params)) if sweeps else [("", self.kept)])
        how = self._sweep(master) if sweeps or self._slurm(master).kind != "none" else None
        if not self.command.shows:
            self.problems += self._folder_problems(master, "sweep" if sweeps else "run")
        if self.problems:
            raise ConfigError(self.problems)
        overrides = [self._for_hydra(item) for item in self.kept]
        return Checked(overrides, made, bool(master.get("dry_run", False)), how, alone=not sweeps)

    def _named(self, parsed: list[Override]) -> list[Override]:
        """Those whose group and option exist; for the others a problem is noted."""
        kept = []
        for item in parsed:
            problems = words.name_problems(item, self.composer)
            if problems:
                self.problems += problems
                self.wrong.add(item.key_or_group)
            else:
                kept.append(words.normal(item, self.composer))
        return kept

    def _refuse_sweeps(self) -> None:
        self.problems += [words.sweep_problem(item) for item in self.kept if item.is_sweep_override()]
        self.kept = [item for item in self.kept if not item.is_sweep_override()]

    def _sweep(self, master: DictConfig) -> Sweep | None:
        """Our own way of carrying out a sweep, unless another of Hydra's sweepers or launchers is chosen."""
        launcher = str(master.hydra.launcher.get("_target_", "")).rpartition(".")[2]
        if not _is_basic_sweep(master) or launcher != BasicLauncher.__name__:
            return None
        section = master.get("sweep")
        parallel = section.get("parallel") if isinstance(section, DictConfig) else None  # judged with each run
        at_once = parallel if isinstance(parallel, int) else None
        return Sweep(Path(str(master.hydra.sweep.dir)).absolute(), at_once, self._slurm(master))

    def _slurm(self, master: DictConfig) -> Slurm:
        """The cluster's settings; wrong ones are told with those of each run."""
        try:
            made: Slurm = build(OmegaConf.to_container(master.slurm), "slurm", Slurm)  # type: ignore[arg-type]
        except (ConfigError, OmegaConfBaseException, ValueError):
            return Slurm()
        return made

    def _parameters(self, master: DictConfig) -> list[Override]:
        """What an experiment's own sweep varies."""
        params = OmegaConf.select(master, "hydra.sweeper.params") or {}
        parsed, problems = words.parse([f"{key}={value}" for key, value in params.items()], self.composer)
        self.problems += problems
        return parsed

    def _cells(self, master: DictConfig, params: list[Override]) -> Iterator[tuple[str, list[Override]]]:
        """The runs that Hydra's basic sweeper makes, each with a label; other sweepers choose theirs as they go."""
        varied = [item for item in [*params, *self.kept] if not item.is_hydra_override()]
        hydras = [item for item in self.kept if item.is_hydra_override()]
        if not _is_basic_sweep(master):
            yield "", [item for item in self.kept if not item.is_sweep_override()]
            return
        try:
            batch = BasicSweeper.split_arguments(varied, None)[0]
        except HydraException as error:
            raise ConfigError([*self.problems, f"{error}; write choice(...) or range(...)"]) from None
        swept = {item.get_key_element() for item in varied if item.is_sweep_override()}
        parsed = {word: words.parse([word], self.composer)[0] for word in dict.fromkeys(itertools.chain(*batch))}
        for cell in batch:
            label = " ".join(word for word in cell if word.partition("=")[0] in swept)
            yield label, [*hydras, *itertools.chain(*(parsed[word] for word in cell))]

    def _composed(self, kept: Sequence[Override]) -> tuple[DictConfig, list[str]]:
        """Compose the options, then set the fields; returns one problem for each field that does not exist."""
        selects = [item for item in kept if words.is_selection(item, self.composer)]
        try:
            config = self.composer.compose([item.input_line or "" for item in selects])
        except ConfigError as error:
            raise ConfigError([*self.problems, *error.problems]) from None
        fields = [item for item in kept if item not in selects and item.key_or_group.split(".")[0] not in self.wrong]
        self.unlisted |= {item.key_or_group for item in fields if not is_listed(config, item.key_or_group)}
        return config, [problem for item in fields for problem in apply(config, item)]

    def _for_hydra(self, override: Override) -> str:
        line = override.input_line or ""
        plain = not (override.is_delete() or override.is_hydra_override() or override.package)
        return f"++{line}" if plain and override.key_or_group in self.unlisted else line

    def _judge_all(self, cells: list[tuple[str, list[Override]]]) -> list[Cell]:
        """Judge every run, and note each problem once with the runs that have it."""
        made, wrong, against = [], dict[str, list[str]](), dict[str, list[str]]()
        for number, (label, kept) in enumerate(cells):
            judged = self._judge(kept, number)
            if judged.experiment or judged.contradictions:
                overrides = [self._for_hydra(item) for item in kept if not item.key_or_group.startswith(_OF_SWEEPS)]
                made.append(Cell(label, overrides, judged.experiment, judged.folder, tuple(judged.contradictions)))
            for problem in judged.problems:
                wrong.setdefault(problem, []).append(label)
            for problem in judged.contradictions:
                against.setdefault(problem, []).append(label)
        if not any(cell.experiment for cell in made):
            wrong |= against
        for problem, labels in wrong.items():
            more = f" and {len(labels) - 1} more" if len(labels) > 1 else ""
            where = f" (run {labels[0]}{more})" if labels[0] and len(labels) < len(cells) else ""
            self.problems.append(problem + where)
        return made

    def _judge(self, kept: Sequence[Override], number: int) -> _Judged:
        """Build one run's experiment; without contradictions if part of what the user meant is not known."""
        config, problems = self._composed(kept)
        if self.command.shows:
            return _Judged(problems)
        chosen, folder = choices(config), _subfolder(config, number)
        values, unresolved = plain_values(config)
        try:
            made = parts(values)
        except ConfigError as error:
            told = {line.partition(":")[0] for line in unresolved}
            more = [line for line in error.problems if line.partition(":")[0] not in told]
            return _Judged([*problems, *_not_misspelt(unresolved, problems), *more])
        if self.problems or problems or unresolved:
            return _Judged([*problems, *_not_misspelt(unresolved, problems)])
        try:
            experiment = Experiment.from_parts(made, chosen, self.built)
            unfit = device_problems(experiment.trainer, self._slurm(config))
            return _Judged(problems, unfit, None if unfit else experiment, folder)
        except ConfigError as error:
            return _Judged(problems, error.problems, None, folder)

    def _folder_problems(self, config: DictConfig, kind: str) -> list[str]:
        """Say why the folder of the run or sweep cannot be made, if it cannot."""
        try:
            folder = Path(config.hydra[kind].dir).absolute()
        except OmegaConfBaseException:
            return []  # the value that does not resolve is told by itself
        key = f"hydra.{kind}.dir"
        key = key if any(item.key_or_group == key for item in self.kept) else "paths.runs"
        return [f"{key}: {why}"] if (why := why_not_made(folder)) else []


@dataclass(frozen=True)
class _Judged:
    """What is to be said of one run."""

    problems: list[str]  # names, types, ranges
    contradictions: list[str] = field(default_factory=list)
    experiment: Experiment | None = None
    folder: str = ""


def _not_misspelt(lines: Sequence[str], unknown: Sequence[str]) -> list[str]:
    """The lines on fields without a value, but for those that an unknown name was probably meant to give."""
    meant = {proposed(line) for line in unknown}
    return [line for line in lines if line.partition(":")[0] not in meant]


def _is_basic_sweep(master: DictConfig) -> bool:
    return str(master.hydra.sweeper.get("_target_", "")).rpartition(".")[2] == BasicSweeper.__name__


def _subfolder(config: DictConfig, number: int) -> str:
    """The folder of a run inside its sweep's; empty if it does not resolve, which is told by itself."""
    with open_dict(config.hydra):
        config.hydra.job.num = number
    try:
        return str(config.hydra.sweep.subdir)
    except OmegaConfBaseException:
        return ""
