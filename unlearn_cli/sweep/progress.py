"""What a sweep says while it runs: a display that is kept up to date on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from unlearn_cli.sweep.record import Outcome

LINE_SECONDS = 10.0  # in a log, between two lines about runs that ended well
SHOWN = 8  # of what is being done


class Progress:
    """Counts runs as they end, and guesses how long the rest will take from those that did."""

    def __init__(self, total: int, refused: int) -> None:
        self.total, self.done = total, 0
        self.states = Counter({"done": 0, "cached": 0, "failed": 0, "refused": refused})
        self.begun = self.last_line = time.monotonic()
        self.running: list[tuple[str, float]] = []  # what is being done, and since when
        # The stream as it is now: what a run prints to another one does not take the display with it.
        self.console = Console(file=sys.stderr, soft_wrap=True, highlight=False)
        page = Live(console=self.console, get_renderable=self.page, transient=True, redirect_stdout=False)
        self.live = page if self.console.is_terminal else None

    def __enter__(self) -> Progress:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def begins(self, what: str) -> None:
        """Something is being done."""
        self.running.append((what, time.monotonic()))

    def ends(self, what: str, outcome: Outcome | None = None) -> None:
        """It is done; `outcome` of a run, None for a stage."""
        self.running.remove(next(one for one in self.running if one[0] == what))
        if outcome is None:
            return
        self.done += 1
        cached = outcome.result is not None and not outcome.seconds
        self.states[("cached" if cached else "done") if outcome.state == "ok" else outcome.state] += 1
        self._say(outcome)

    def page(self) -> Group:
        """The display of a terminal."""
        head = Table.grid(padding=(0, 1))
        head.add_row(f"{self.done} of {self.total} runs", ProgressBar(max(self.total, 1), self.done, 30), self.left())
        now = time.monotonic()
        doing: list[Any] = [
            Text(f"  {_spoken(now - since):>6}  {what}", overflow="ellipsis", no_wrap=True)
            for what, since in self.running[:SHOWN]
        ]
        more = [Text(f"  and {len(self.running) - SHOWN} more")] if len(self.running) > SHOWN else []
        return Group(head, Text(self.counts()), *doing, *more)

    def counts(self) -> str:
        """How many runs are in which state; the usual ones also if there is none."""
        told = {**self.states, "running": len(self.running)}
        always = ("done", "cached", "running", "failed")
        rare = [name for name in told if name not in always and told[name]]
        return ", ".join(f"{told[name]} {name}" for name in (*always, *rare))

    def left(self) -> str:
        """The time left; what was cached says nothing about it as long as something was not."""
        made = self.done - self.states["cached"] or self.done
        if not made or self.done == self.total:
            return ""
        return f"about {_spoken((time.monotonic() - self.begun) / made * (self.total - self.done))} left"

    def _say(self, outcome: Outcome) -> None:
        """Faults at once; in a log also what ended well, but not hundreds of lines of it."""
        well, now = outcome.state == "ok", time.monotonic()
        if well and (self.live or (self.done < self.total and now - self.last_line < LINE_SECONDS)):
            return
        self.last_line = now
        why = f": {outcome.error}" if outcome.error else ""
        rest = "" if self.live else " (" + ", ".join(filter(None, [self.counts(), self.left()])) + ")"
        line = f"[{self.done}/{self.total}] {outcome.state} {outcome.entry.label}{why}{rest}"
        self.console.print(line, markup=False)
        self.console.file.flush()


def _spoken(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
