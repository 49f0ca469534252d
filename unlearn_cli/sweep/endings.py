"""How processes end: by a signal, with a status, with a last word."""

from __future__ import annotations

import signal
from pathlib import Path

CONSOLE = "console.log"  # in a run's folder: what it printed


def ending(status: int) -> str:
    """What became of a process that left no result."""
    if status >= 0:
        return f"its process ended with status {status}; {CONSOLE} has what it printed"
    name = signal.Signals(-status).name
    return f"its process was killed by {name}" + (": out of memory?" if name == "SIGKILL" else "")


def last_line(path: Path) -> str:
    """The last thing that a process printed."""
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    return lines[-1] if lines else ""
