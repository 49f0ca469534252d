"""The errors a user can meet, and the exit status each ends with."""

from __future__ import annotations

import signal
from collections.abc import Sequence

EXIT_OK = 0
EXIT_FAILED = 1  # failed while running
EXIT_REFUSED = 2  # refused before any work


class UnlearnError(Exception):
    """A failure while running, told in one sentence and without a traceback."""


class ConfigError(UnlearnError):
    """The user's configuration cannot run; `problems` holds one line for each thing to mend."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM. Not an `Exception`, so that nothing on the way up swallows it."""

    def __init__(self, signum: int = signal.SIGINT) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum
        self.exit_status = 128 + signum
