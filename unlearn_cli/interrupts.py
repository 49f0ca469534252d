"""Ctrl-C and SIGTERM as an exception that is not lost."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from unlearn_cli.errors import Interrupted

AGAIN_SECONDS = 0.05


@contextmanager
def interruptible(*signals: int) -> Iterator[None]:
    """Answer signals with `Interrupted` in the main thread, but for those that this process was told to ignore.

    Python prints and drops what is raised inside a finaliser; such an interruption is raised again a moment later.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    dropped: list[int] = []
    report = sys.unraisablehook

    def hear(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, Interrupted):
            dropped.append(unraisable.exc_value.signum)
            signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)  # a thread cannot be started inside a finaliser
        else:
            report(unraisable)

    def again(_: int, __: FrameType | None) -> None:
        if dropped:
            raise Interrupted(dropped.pop())

    heeded = [number for number in signals if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, _interrupt) for number in heeded}
    before[signal.SIGALRM] = signal.signal(signal.SIGALRM, again)
    sys.unraisablehook = hear
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = report
        for number, handler in before.items():
            signal.signal(number, handler)
    if dropped:
        raise Interrupted(dropped[-1])


def _interrupt(signum: int, _: FrameType | None) -> None:
    raise Interrupted(signum)
