"""What the processes of a stage tell each other, as lines of text."""

from __future__ import annotations

import base64
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlearn_cli.experiment import Experiment

MARK = b"unlearn:"  # tells these lines from what a library prints


@dataclass(frozen=True)
class Order:
    """What to make: a function of `builders`, its arguments between study and watch, and the artifact's folder."""

    stage: str
    builder: str
    experiment: Experiment
    arguments: tuple[Any, ...]
    folder: str
    progress: bool


@dataclass(frozen=True)
class Address:
    """Where the first rank can be reached."""

    host: str
    port: int


@dataclass(frozen=True)
class Stop:
    """End behind this step, and save."""


@dataclass(frozen=True)
class Stopped:
    """The first rank has ended because it was told to."""


@dataclass(frozen=True)
class Log:
    """A line of the first rank's log."""

    name: str
    level: int
    text: str


@dataclass(frozen=True)
class Done:
    """What the first rank's builder returned."""

    extra: dict[str, Any]


@dataclass(frozen=True)
class Failed:
    """What ended a rank: an error, or, without one, what its process ended with."""

    rank: int
    error: Exception | None
    text: str  # the error with its traceback, or what became of the process

    @property
    def killed(self) -> bool:
        """Whether a signal ended it."""
        return self.error is None and self.text.startswith("was killed")

    @property
    def lost_peer(self) -> bool:
        """Whether it could not go on because another rank was gone."""
        told = type(self.error).__name__ in ("DistBackendError", "DistNetworkError", "DistStoreError")
        return told or any(words in str(self.error) for words in ("closed by peer", "reset by peer", "Broken pipe"))


def encode(message: Any) -> bytes:
    """One line."""
    return MARK + base64.b64encode(pickle.dumps(message)) + b"\n"


def decode(line: bytes) -> Any:
    """What `encode` was given; None for a line of other origin."""
    return pickle.loads(base64.b64decode(line[len(MARK) :])) if line.startswith(MARK) else None
