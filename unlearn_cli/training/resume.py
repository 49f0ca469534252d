"""What lets a training loop that was stopped go on where it was: all of its state, written whole or not at all."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch

log = logging.getLogger(__name__)

FILE = "state.pt"
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGALRM") if hasattr(signal, name))


class Resume:
    """A folder for the states of a stage's loops, each saved at most every so many seconds.

    A stage that runs several loops is made again from the first, to the same bits; each takes up its own state.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder, self.seconds = folder, seconds
        self.loops = 0

    def slot(self) -> Slot:
        """The place of the next loop, in the order in which the stage runs them."""
        self.loops += 1
        return Slot(self.folder / f"{self.loops}-{FILE}", self.seconds)


class Slot:
    """Where one loop leaves its state, and finds that of an attempt that was stopped."""

    def __init__(self, path: Path, seconds: float) -> None:
        self.path, self.seconds = path, seconds
        self.saved = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether the last save is long enough ago."""
        return time.monotonic() - self.saved >= self.seconds

    def save(self, state: dict[str, Any]) -> None:
        """Replace what is there; a full disk costs the state and not the training."""
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(state, draft)
            draft.replace(self.path)
        except (OSError, RuntimeError) as error:  # torch tells a full disk as the latter
            log.warning("the state of this stage cannot be kept, a restart would begin anew: %s", error)
            draft.unlink(missing_ok=True)
        self.saved = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """What an earlier attempt left; None if it left nothing that can be read."""
        if not self.path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self.path, weights_only=True, map_location="cpu")
        except Exception as error:  # torch raises many kinds for a damaged file
            log.warning("%s cannot be read, so this stage begins anew: %s", self.path, error)
            return None
        return state


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold back signals until the block is left, so that what it changes is never found half changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[tuple[int, FrameType | None]] = []

    def keep(signum: int, frame: FrameType | None) -> None:
        caught.append((signum, frame))

    found = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in found.items() if callable(handler)}
    for number in before:
        signal.signal(number, keep)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number, frame in caught[:1]:
        before[number](number, frame)  # type: ignore[operator]
