"""What a sweep says while it runs: a line for each run that ends, or on a terminal one line that is kept up to date."""

from __future__ import annotations

import sys
import time
from collections import Counter

from rich.console import Console
from rich.status import Status

from unlearn_cli.sweep.record import Outcome


class Progress:
    """Counts runs as they end, and guesses how long the rest will take from those that did."""

    def __init__(self, total: int, refused: int) -> None:
        self.total, self.done = total, 0
        self.states: Counter[str] = Counter(refused=refused)
        self.begun = time.monotonic()
        self.running: list[str] = []
        self.console = Console(stderr=True, soft_wrap=True, highlight=False)
        self.live = Status("", console=self.console) if self.console.is_terminal else None

    def __enter__(self) -> Progress:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def begins(self, what: str) -> None:
        """Something is being done."""
        self.running.append(what)
        self._refresh()

    def ends(self, what: str, outcome: Outcome | None = None) -> None:
        """It is done; `outcome` of a run, None for a stage."""
        self.running.remove(what)
        if outcome is not None:
            self.done += 1
            cached = outcome.state == "ok" and outcome.result is not None and not outcome.seconds
            self.states["cached" if cached else outcome.state] += 1
            self._say(outcome)
        self._refresh()

    def _say(self, outcome: Outcome) -> None:
        if outcome.state == "ok" and self.live:
            return
        why = f": {outcome.error}" if outcome.error else ""
        left = "" if self.live else self._left()
        self.console.print(f"[{self.done}/{self.total}] {outcome.state} {outcome.entry.label}{why}{left}", markup=False)

    def _left(self) -> str:
        if not 0 < self.done < self.total:
            return ""
        seconds = (time.monotonic() - self.begun) / self.done * (self.total - self.done)
        return f" (about {_spoken(seconds)} left)"

    def _refresh(self) -> None:
        if self.live:
            counts = ", ".join(f"{count} {state}" for state, count in self.states.items() if count)
            self.live.update(
                f"{self.done} of {self.total} runs; {counts or 'none ended'}; "
                f"now {'; '.join(self.running) or 'nothing'}{self._left()}"
            )
        sys.stderr.flush()


def _spoken(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
