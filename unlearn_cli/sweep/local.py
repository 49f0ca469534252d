"""Carry out a sweep on this machine: several runs at a time, shared stages first, whatever becomes of each."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path

from unlearn_cli import machine
from unlearn_cli.errors import EXIT_FAILED, EXIT_OK, Interrupted
from unlearn_cli.experiment import Experiment
from unlearn_cli.interrupts import interruptible
from unlearn_cli.sweep.endings import CONSOLE, ending, last_line
from unlearn_cli.sweep.plan import Plan, Shared, plan
from unlearn_cli.sweep.progress import Progress
from unlearn_cli.sweep.record import Entry, forget, outcome, write_failure
from unlearn_cli.sweep.tasks import make_shared, run_cell
from unlearn_cli.sweep.worker import Task, Worker


@dataclass
class LocalSweep:
    """The runs of a sweep that are not refused, and how they are called."""

    folder: Path
    entries: Sequence[Entry]
    experiments: Mapping[int, Experiment]  # by the entries' numbers
    flags: Sequence[str]
    conf: Path
    progress: Progress

    def carry_out(self, parallel: int | None) -> int:
        """Return 0 if all ended well, 1 if one did not, 130 or 143 after an interruption.

        `parallel` is how many run at a time; None: as many as there is room for.
        """
        at_once = min(parallel or room(self.experiments.values()), len(self.entries))
        with self.progress:
            # A live display has the terminal for itself, so that runs get a process of their own.
            in_this_process = at_once <= 1 and self.progress.live is None
            return self._in_this_process() if in_this_process else _Pool(self, at_once).carry_out()

    def command(self, entry: Entry) -> tuple[list[str], Sequence[str], Path, Path]:
        """The arguments of `run_cell`."""
        return entry.overrides, self.flags, self.conf, self.folder / entry.folder

    def _in_this_process(self) -> int:
        """One after another; shared stages come from the first run that needs them."""
        worst = EXIT_OK
        for entry in self.entries:
            console = self.folder / entry.folder / CONSOLE
            console.parent.mkdir(parents=True, exist_ok=True)
            self.progress.begins(entry.label)
            try:
                with console.open("a") as file, contextlib.redirect_stdout(file):
                    status = run_cell(*self.command(entry))
            except SystemExit:  # whatever called it, the other runs go on
                status = EXIT_FAILED
            except Interrupted as interrupted:
                return interrupted.exit_status
            if status != EXIT_OK:
                self.write_failure(entry, None, ending(status))
            self.progress.ends(entry.label, outcome(self.folder, entry))
            worst = max(worst, status)
        return min(worst, EXIT_FAILED)

    def write_failure(self, entry: Entry, stage: str | None, why: str) -> None:
        """Write the result of a run that did not write one itself."""
        write_failure(self.folder, entry, self.experiments[entry.number], stage, why)


def room(experiments: Iterable[Experiment]) -> int:
    """How many runs this machine has room for: one on an accelerator, else as many as have a core for each thread."""
    trainers = [experiment.trainer for experiment in experiments]
    accelerated = machine.has_cuda() or any(trainer.accelerator not in ("auto", "cpu") for trainer in trainers)
    most = max(trainer.threads * trainer.devices for trainer in trainers)
    return 1 if accelerated else max(1, machine.cores() // most)


@dataclass
class _Pool:
    """Processes that take the next task whose stages are there."""

    sweep: LocalSweep
    size: int
    waiting: list[Entry] = field(init=False)
    shared: list[Shared] = field(init=False)
    plan: Plan = field(init=False)
    unmade: set[str] = field(init=False)  # digests of shared stages that are not there yet
    failed: dict[str, str] = field(default_factory=dict)  # digest -> why it cannot be made

    def __post_init__(self) -> None:
        alone = Plan(
            [], dict.fromkeys(self.sweep.experiments, frozenset())
        )  # a run shares with nobody at the same time
        self.plan = plan(self.sweep.experiments) if self.size > 1 else alone
        self.waiting, self.shared = list(self.sweep.entries), list(self.plan.shared)
        self.unmade = {stage.digest for stage in self.shared}
        self.workers = [Worker() for _ in range(self.size)]
        self.worst = EXIT_OK

    def carry_out(self) -> int:
        """Hand out tasks until none is left."""
        try:
            with interruptible(signal.SIGTERM):
                while self._hand_out():
                    self._collect()
        except (Interrupted, KeyboardInterrupt) as stopped:
            interrupted = stopped if isinstance(stopped, Interrupted) else Interrupted()
            return interrupted.exit_status
        finally:
            for worker in self.workers:
                worker.stop()
            for worker in self.workers:
                worker.join()
        return self.worst

    def _hand_out(self) -> bool:
        """Give every idle process a task; false when nothing is being done any more."""
        for worker in self.workers:
            if worker.doing is None:
                self._give(worker)
        return any(worker.doing is not None for worker in self.workers)

    def _give(self, worker: Worker) -> None:
        ready, stage = self._ready(), self._stage()
        if stage is not None and (ready is None or self._starved()):
            self.shared.remove(stage)
            arguments = (self.sweep.experiments[stage.cell], stage.stage, stage.member)
            worker.begin(stage, Task(make_shared, arguments, self._log(stage)))
            self.sweep.progress.begins(stage.label)
        elif ready is not None:
            self.waiting.remove(ready)
            console = self.sweep.folder / ready.folder / CONSOLE
            overrides, *rest = self.sweep.command(ready)
            taken = ["trainer.side_by_side=false"] if self.size > 1 else []  # the cores, by other runs
            worker.begin(ready, Task(run_cell, ([*overrides, *taken], *rest), console))
            self.sweep.progress.begins(ready.label)

    def _stage(self) -> Shared | None:
        """The first stage to be made whose own are there."""
        return next((stage for stage in self.shared if not self.unmade.intersection(stage.after)), None)

    def _log(self, stage: Shared) -> Path:
        return self.sweep.folder / "stages" / f"{stage.label.replace(' ', '-')}-{stage.digest}.log"

    def _starved(self) -> bool:
        """Whether fewer runs are ready than there are processes: then stages go first."""
        return sum(not self._lacks(entry) for entry in self.waiting) < self.size

    def _ready(self) -> Entry | None:
        """The first run that lacks no shared stage; runs whose stage failed are ended on the way."""
        for entry in list(self.waiting):
            lacking = self._lacks(entry)
            broken = [self.failed[digest] for digest in lacking if digest in self.failed]
            if broken:
                self.waiting.remove(entry)
                self._end(entry, "train", broken[0])
            elif not lacking:
                return entry
        return None

    def _lacks(self, entry: Entry) -> frozenset[str]:
        return self.plan.waits[entry.number] & self.unmade

    def _collect(self) -> None:
        """Wait for something to end, and note what came of it."""
        busy = {worker.link: worker for worker in self.workers if worker.doing is not None}
        for link in wait([link for link in busy if link is not None]):
            worker = busy[link]  # type: ignore[index]
            done = worker.doing
            status = worker.ended()
            if isinstance(done, Shared):
                self._made(done, status)
            else:
                self._ran(done, status)

    def _made(self, stage: Shared, status: int) -> None:
        self.sweep.progress.ends(stage.label)
        if status == EXIT_OK:
            self.unmade.remove(stage.digest)
        elif status <= 128:
            self._fail(stage, f"{stage.label}: {last_line(self._log(stage)) or ending(status)}")
        else:
            raise Interrupted(status - 128)

    def _fail(self, stage: Shared, why: str) -> None:
        """Give up a stage and those that are made from it."""
        self.failed[stage.digest] = why
        for other in [other for other in self.shared if stage.digest in other.after]:
            self.shared.remove(other)
            self._fail(other, why)

    def _ran(self, entry: Entry, status: int) -> None:
        if status != EXIT_OK and status <= 128:
            self.sweep.write_failure(entry, None, ending(status))
        self.worst = max(self.worst, EXIT_OK if status == EXIT_OK else EXIT_FAILED)
        self.sweep.progress.ends(entry.label, outcome(self.sweep.folder, entry))
        if status > 128:
            raise Interrupted(status - 128)

    def _end(self, entry: Entry, stage: str | None, why: str) -> None:
        """End a run that cannot begin."""
        forget(self.sweep.folder / entry.folder)
        self.sweep.write_failure(entry, stage, why)
        self.worst = EXIT_FAILED
        self.sweep.progress.begins(entry.label)
        self.sweep.progress.ends(entry.label, outcome(self.sweep.folder, entry))
