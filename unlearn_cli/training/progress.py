"""Progress of a loop on stderr: a live bar on a terminal, a line now and then in a log file."""

from __future__ import annotations

import logging
import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import lightning

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

log = logging.getLogger(__name__)

LINE_SECONDS = 5.0  # between two lines where there is no terminal


class Progress(lightning.Callback):
    """Steps, time left, and the latest loss, recall or accuracy."""

    def __init__(self, stage: str, steps: int, shown: bool) -> None:
        self.stage, self.steps, self.shown = stage, steps, shown
        self.bar: Bar | None = None
        self.latest: dict[str, float] = {}
        self.last_line = self.started = time.monotonic()
        self.before = 0  # steps of an attempt that was stopped

    def on_train_start(self, _: lightning.Trainer, module: Any) -> None:
        """Open the bar."""
        self.started, self.before = time.monotonic(), module.taken
        if self.shown and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = [BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[readings]}")]
            self.bar = Bar("{task.description:>6}", *columns, console=Console(stderr=True), transient=True)
            self.bar.start()
            self.bar.add_task(self.stage, total=self.steps, readings="")

    def on_train_batch_end(self, trainer: lightning.Trainer, module: Any, *_: Any) -> None:
        """Move on."""
        row = module.runtime.curves[-1]
        self.latest |= {key: value for key, value in row.items() if key in ("loss", "recall", "accuracy")}
        readings = " ".join(f"{key} {value:.3f}" for key, value in self.latest.items())
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=module.taken, readings=readings)
        elif self.shown and time.monotonic() - self.last_line > LINE_SECONDS:
            self.last_line = time.monotonic()
            left = self._left(module.taken)
            log.info("%s: step %d of at most %d, %s left, %s", self.stage, module.taken, self.steps, left, readings)

    def _left(self, taken: int) -> str:
        """At most how long it goes on at its pace so far."""
        pace = (time.monotonic() - self.started) / (taken - self.before)
        return str(timedelta(seconds=round(pace * (self.steps - taken))))

    def on_train_end(self, *_: Any) -> None:
        """Close the bar."""
        self._close()

    def on_exception(self, *_: Any) -> None:
        """Close the bar."""
        self._close()

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
