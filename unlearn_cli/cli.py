"""The command `unlearn`: sub-commands and help at once; everything else is checked whole, then handed to Hydra."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from unlearn_cli import __version__
from unlearn_cli.errors import EXIT_FAILED, EXIT_OK, EXIT_REFUSED, ConfigError, Interrupted, UnlearnError
from unlearn_cli.interrupts import interruptible

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from unlearn_cli.check import Checked

SUBCOMMANDS = {  # name: module whose `main(argv)` returns the exit status, what it does
    "cache": ("unlearn_cli.cache.housekeeping", "list, verify and prune the cache of finished stages"),
    "search": ("unlearn_cli.sweep.search", "look for the settings with the best value of a metric"),
    "status": ("unlearn_cli.sweep.status", "what became of the runs of a sweep, from its folder"),
    "export": ("unlearn_cli.exchange.export", "write a world and its edit for other tools, and for world=imported"),
}

log = logging.getLogger(__name__)

_statuses: list[int] = []  # of the runs in this process, since Hydra hands no return value back


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (without the program's name) and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        with interruptible(signal.SIGINT, signal.SIGTERM):
            return _follow(words)
    except ConfigError as error:
        print(refusal(error), file=sys.stderr)
        return EXIT_REFUSED
    except UnlearnError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    except Interrupted as error:
        return error.exit_status
    except KeyboardInterrupt:
        return Interrupted().exit_status


def _follow(words: Sequence[str]) -> int:
    if words and words[0] in SUBCOMMANDS:
        return int(import_module(SUBCOMMANDS[words[0]][0]).main(words[1:]))
    if "--version" in words:
        say(f"unlearn {__version__}")
        return EXIT_OK
    if "--help" in words or "-h" in words:
        return _help(words)
    return _compose_and_run(words)


def config_dir() -> Path:
    """The shipped configuration: inside the package in a wheel, beside it in a checkout."""
    here = Path(__file__).resolve().parent
    for folder in (here / "conf", here.parent / "conf"):
        if (folder / "config.yaml").is_file():
            return folder
    raise UnlearnError(f"The installation is incomplete: no config.yaml in {here}/conf or {here.parent}/conf.")


def run(config: DictConfig) -> int:
    """Hydra's job: carry out one composed configuration and return its exit status.

    It neither raises nor exits for a failure, which would end the other runs of a sweep; an interruption does.
    """
    # OpenMP threads that spin while they wait take the cores from a second process; read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.raiseExceptions = False  # unlearn.log on a full disk is told of by what fails next
    try:
        with interruptible(signal.SIGINT, signal.SIGTERM):
            status = _carry_out(config)
    except UnlearnError as error:
        log.error("%s", error)
        status = EXIT_FAILED
    except Exception:
        log.exception("This is a bug in unlearn.")
        status = EXIT_FAILED
    _statuses.append(status)
    if status > 128:
        raise Interrupted(status - 128)
    return status


def _carry_out(config: DictConfig) -> int:
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import DictConfig, OmegaConf

    from unlearn_cli.composition import choices
    from unlearn_cli.experiment import Experiment
    from unlearn_cli.pipeline import run as run_pipeline

    values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(values, dict)
    hydra = HydraConfig.get()
    chosen = choices(DictConfig({"hydra": {"runtime": {"choices": hydra.runtime.choices}}}))
    experiment = Experiment.from_config({str(key): value for key, value in values.items()}, chosen)
    result = run_pipeline(experiment, Path(hydra.runtime.output_dir))
    if table := result.table():
        say(table)
    say(str(result.run_dir.absolute()))
    return int(result.exit_status)


def _help(words: Sequence[str]) -> int:
    from unlearn_cli.help import text

    say(text(words, config_dir(), {name: line for name, (_, line) in SUBCOMMANDS.items()}))
    return EXIT_OK


def _compose_and_run(words: Sequence[str]) -> int:
    from unlearn_cli.check import check
    from unlearn_cli.command import parse

    conf = config_dir()
    command = parse(words, conf)
    if command.asks_hydra:
        if command.problems:
            raise ConfigError(command.problems)
        return hand_to_hydra(command.flags, command.overrides, conf)
    checked = check(command, list(SUBCOMMANDS))
    if command.shows:
        return hand_to_hydra(command.flags, checked.overrides, conf)
    if checked.dry_run:
        return _describe(checked)
    if checked.sweep:
        from unlearn_cli.sweep.command import carry_out

        return carry_out(checked.sweep, checked.cells, command.flags, conf)
    return (run_one if checked.alone else hand_to_hydra)(command.flags, checked.overrides, conf)


def _describe(checked: Checked) -> int:
    from unlearn_cli.pipeline import describe

    for cell in checked.cells:
        lines = describe(cell.experiment) if cell.experiment else [f"refused  {reason}" for reason in cell.refused]
        say("\n".join([*([cell.label] if cell.label else []), *lines]))
    return EXIT_OK


def hand_to_hydra(flags: Sequence[str], overrides: Sequence[str], conf: Path) -> int:
    """Let Hydra compose and call `run`, once, or often by a sweeper or launcher of its own; the worst status counts."""
    import hydra

    from unlearn_cli.composition import VERSION_BASE, register_resolvers

    register_resolvers()
    _statuses.clear()
    with _arguments([*overrides, *flags]):  # overrides first: argparse takes them in one place only
        # Not as a decorator: launchers pickle `run` by its name, which must be that of the plain function.
        hydra.main(version_base=VERSION_BASE, config_path=str(conf), config_name="config")(run)()
    failed = sum(status != EXIT_OK for status in _statuses)
    if failed and len(_statuses) > 1:
        log.error("%d of %d runs failed", failed, len(_statuses))
    return max(_statuses, default=EXIT_OK)


def run_one(flags: Sequence[str], overrides: Sequence[str], conf: Path) -> int:
    """The same for words that are known to be one run: `hydra.main` would compose them twice to find that out."""
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import run_and_report
    from hydra.core.global_hydra import GlobalHydra

    from unlearn_cli.command import parse
    from unlearn_cli.composition import loader_of

    words = [*overrides, *flags]
    command = parse(words, conf)
    _statuses.clear()
    hydra = Hydra(task_name="unlearn", config_loader=loader_of(command))
    GlobalHydra.instance().initialize(hydra)
    try:
        with _arguments(words):
            run_and_report(lambda: hydra.run(command.name, run, command.overrides))
    finally:
        GlobalHydra.instance().clear()
    return max(_statuses, default=EXIT_FAILED)


@contextmanager
def _arguments(words: Sequence[str]) -> Iterator[None]:
    """What the program was called with, as far as a run is concerned."""
    before = sys.argv
    sys.argv = [before[0], *words]
    try:
        yield
    finally:
        sys.argv = before


def say(text: str) -> None:
    """Print a result; a reader that has gone away, such as `head`, is no failure."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  for the rest of the process


def refusal(error: ConfigError) -> str:
    """A headline, then one problem a line, with what a terminal would not show as one line written out."""
    problems = list(dict.fromkeys(map(_printable, error.problems)))
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return "\n".join([f"unlearn: {count}, nothing was run", *(f"  {line}" for line in problems)])


def _printable(line: str) -> str:
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)
