"""Make a table of a paper: `python scripts/table.py behemoth_rank [--dry] [--slurm cluster] [words for unlearn...]`.

Runs the sweeps of an experiment that has a section `table`, computing only what is missing, then writes
tables/<name>.md, .tex, .csv, .provenance.json and figures/<name>.svg, .png. Words such as paths.cache=/tmp/c go to
every run. docs/tables.md says what the numbers mean.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from unlearn_cli.analysis.grid import Grid, grid_of
from unlearn_cli.analysis.grid_figures import draw
from unlearn_cli.analysis.grid_pages import write
from unlearn_cli.analysis.table_spec import TableSpec, table_spec
from unlearn_cli.analysis.verdicts import trials
from unlearn_cli.check import Checked, check
from unlearn_cli.cli import config_dir, refusal
from unlearn_cli.command import parse
from unlearn_cli.composition import Composer
from unlearn_cli.errors import EXIT_FAILED, EXIT_OK, EXIT_REFUSED, ConfigError, UnlearnError
from unlearn_cli.sweep.cluster import with_jobs
from unlearn_cli.sweep.estimate import Estimate, estimate
from unlearn_cli.sweep.local import room
from unlearn_cli.sweep.record import outcomes


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing and write the table; 0 if every run ended well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="an experiment with a section `table`")
    parser.add_argument("--dry", action="store_true", help="say what would run and how long it takes; run nothing")
    parser.add_argument("--slurm", default="none", metavar="OPTION", help="none | cluster: hand the runs to a cluster")
    parser.add_argument("--to", type=Path, default=Path(), help="folder of tables/ and figures/; this one")
    given, words = parser.parse_known_args(argv)
    words = [f"slurm={given.slurm}", *words] if given.slurm != "none" else words
    try:
        spec = read(given.name, words)
        commands = {part: _command(given.name, part, [*words, *more]) for part, more in spec.sweeps.items()}
        if given.dry:
            return dry(spec, commands)
        for command in commands.values():
            _run(command)
        return finish(given.name, spec, [_folder(given.name, part) for part in commands], given.to)
    except ConfigError as error:
        print(refusal(error), file=sys.stderr)
        return EXIT_REFUSED
    except UnlearnError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED


def read(name: str, words: Sequence[str]) -> TableSpec:
    """The section `table` of an experiment; the words may name a folder of one's own with --config-dir=..."""
    config = Composer(parse(words, config_dir())).compose([f"experiment={name}"])
    section = OmegaConf.select(config, "table")
    if section is None:
        raise ConfigError([f"experiment={name}: has no section `table`; docs/tables.md says what goes into one"])
    return table_spec(OmegaConf.to_container(section, resolve=True))


def dry(spec: TableSpec, commands: dict[str, list[str]]) -> int:
    """Say what would run, and how long that takes here."""
    checked = [check(parse(command, config_dir())) for command in commands.values()]
    for command, sweep in zip(commands.values(), checked, strict=True):
        refused = sum(cell.experiment is None for cell in sweep.cells)
        contradict = f", {refused} of them refused" if refused else ""
        print(f"unlearn {' '.join(command)}\n  {len(sweep.cells)} runs{contradict}")
    experiments = [cell.experiment for sweep in checked for cell in sweep.cells if cell.experiment]
    found = estimate(experiments, spec.seconds or {})
    for one in found.values():
        print(f"  {_told(one)}")
    at_once = _at_once(checked, experiments)
    minutes = sum(one.seconds for one in found.values()) / 60
    unknown = "; what is unknown counts as nothing" if any("unknown" in one.sources for one in found.values()) else ""
    print(f"about {minutes / at_once:.0f} minutes with {at_once} at a time ({minutes:.0f} one after another){unknown}")
    return EXIT_OK


def finish(name: str, spec: TableSpec, folders: Sequence[Path], to: Path) -> int:
    """Write what the runs have come to; a table of a sweep that still runs waits for it."""
    found = [item for folder in folders for item in with_jobs(folder, outcomes(folder))]
    alive = sum(item.state == "running" or (item.state == "waiting" and _on_cluster(folders)) for item in found)
    if alive:
        print(f"{alive} of {len(found)} runs have not ended: the same command again makes the table when they have")
        return EXIT_OK
    grid = grid_of(spec, found)
    _refuse_empty(grid)
    tried = trials(grid)
    for place in ("tables", "figures"):
        (to / place).mkdir(parents=True, exist_ok=True)
    write(grid, tried, to / "tables" / name)
    draw(grid, to / "figures" / name)
    print((to / "tables" / f"{name}.md").read_text())
    print(to / "tables" / f"{name}.md")
    return EXIT_OK if all(member.run is not None for member in grid.members) else EXIT_FAILED


def _refuse_empty(grid: Grid) -> None:
    if not any(member.run is not None for member in grid.members):
        errors = list(dict.fromkeys(member.outcome.error for member in grid.members if member.outcome.error))
        raise UnlearnError("; ".join(["no run ended well, so there is no table", *errors[:3]]))


def _command(name: str, part: str, words: Sequence[str]) -> list[str]:
    return [f"experiment={name}", *words, f"hydra.sweep.dir={_folder(name, part)}"]


def _folder(name: str, part: str) -> Path:
    runs = Path(os.environ.get("UNLEARN_RUNS") or "runs").expanduser()
    return (runs / "tables" / name / part).absolute()


def _run(command: Sequence[str]) -> None:
    """Carry out one sweep; what failed is in its folder, what is wrong with the command ends everything."""
    status = subprocess.run([sys.executable, "-m", "unlearn_cli", *command], check=False).returncode
    if status == EXIT_REFUSED:
        raise ConfigError([f"the sweep was refused: unlearn {' '.join(command)}"])
    if status not in (EXIT_OK, EXIT_FAILED):
        raise UnlearnError(f"interrupted; the same command goes on from here (status {status})")


def _on_cluster(folders: Sequence[Path]) -> bool:
    return any((folder / "jobs.json").exists() for folder in folders)


def _at_once(checked: Sequence[Checked], experiments: Sequence[object]) -> int:
    asked = [sweep.sweep.parallel for sweep in checked if sweep.sweep and sweep.sweep.parallel]
    return min(asked) if asked else room(experiments)


def _told(one: Estimate) -> str:
    if not one.missing:
        return f"{one.name}: {one.total}, all in the cache"
    return (
        f"{one.name}: {one.missing} of {one.total} missing, about {one.seconds / one.missing:.1f} s each"
        f" ({' and '.join(sorted(one.sources))})"
    )


if __name__ == "__main__":
    sys.exit(main())
