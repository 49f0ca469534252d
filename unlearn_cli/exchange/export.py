"""`unlearn export`: write a world and its edit for other tools, and for `world=imported`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from unlearn_cli.errors import EXIT_OK, ConfigError
from unlearn_cli.exchange import folder
from unlearn_cli.exchange.arguments import parse

if TYPE_CHECKING:
    from unlearn_cli.exchange.bundle import Bundle
    from unlearn_cli.experiment import Experiment


def main(argv: Sequence[str]) -> int:
    """Run `unlearn export <argv>`; a ConfigError before anything is written, an UnlearnError if writing fails."""
    arguments = parse(argv)
    problems = folder.problems(arguments.target)
    try:
        experiment = _experiment(arguments.words)
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems]) from None
    if problems:
        raise ConfigError(problems)
    from unlearn_cli.exchange.bundle import Bundle
    from unlearn_cli.study import Study
    from unlearn_cli.worlds.language import Language

    study = Study.of(experiment)
    if not isinstance(study.world.language, Language):
        raise ConfigError(
            [f"world: {experiment.chosen('world')} is text from files, which are what an export would be"]
        )
    said = export(Bundle.of(study), arguments.formats, arguments.target, arguments.sentences)
    print("\n".join([*(f"{name}: {what}" for name, what in said.items()), str(arguments.target)]), flush=True)
    return EXIT_OK


def export(bundle: Bundle, formats: Sequence[str], target: Path, sentences: int | None = None) -> dict[str, str]:
    """Write the absolute path `target` in each format, in subfolders if there are several; returns what each holds.

    Raises a ConfigError if a format cannot hold the world or the edit, or `target` holds something; then, and after
    any failure, nothing is left.
    """
    from unlearn_cli.exchange.bundle import Order

    writers = {name: import_module(f"unlearn_cli.exchange.{name}") for name in formats}
    found = [problem for writer in writers.values() for problem in writer.problems(bundle)]
    if found := [*folder.problems(target), *found]:
        raise ConfigError(found)
    said = {}
    with folder.filled(target) as partial:
        for name, writer in writers.items():
            own = name if len(formats) > 1 else "."
            (partial / own).mkdir(exist_ok=True)
            said[name] = writer.write(bundle, Order(partial / own, target / own, sentences))
    return said


def _experiment(words: Sequence[str]) -> Experiment:
    """The one experiment that a command line describes."""
    from unlearn_cli.check import check
    from unlearn_cli.cli import SUBCOMMANDS, config_dir
    from unlearn_cli.command import parse as parse_command

    chosen = any(word.partition("=")[0] in ("method", "experiment") for word in words)
    any_edit = [] if chosen else ["method=noop"]  # it is not carried out, and takes every edit
    checked = check(parse_command([*words, *any_edit], config_dir()), list(SUBCOMMANDS))
    if checked.dry_run:
        raise ConfigError(["dry_run: true given; an export has none"])
    if len(checked.cells) != 1:
        raise ConfigError([f"export: these words make {len(checked.cells)} runs; expected those of one"])
    experiment = checked.cells[0].experiment
    assert experiment is not None, "a single run that is refused is a problem"
    if experiment.edit.corrupts():
        op = experiment.edit.op
        raise ConfigError([f"edit: {op} starts from a base that was trained on further, which no format holds"])
    return experiment
