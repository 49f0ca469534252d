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

_dropped: list[int] = []  # signals whose exception Python dropped, of all that are under way


@contextmanager
def interruptible(*signals: int) -> Iterator[None]:
    """Answer signals with `Interrupted` in the main thread, but for those that this process was told to ignore.

    Python prints and drops what is raised inside a finaliser; such an interruption is raised again a moment later.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    report = sys.unraisablehook

    def hear(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, Interrupted):
            _dropped.append(unraisable.exc_value.signum)
            signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)  # a thread cannot be started inside a finaliser
        else:
            report(unraisable)

    heeded = [number for number in signals if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, _interrupt) for number in heeded}
    before[signal.SIGALRM] = signal.signal(signal.SIGALRM, _again)
    sys.unraisablehook = hear
    try:
        yield
    except Interrupted:
        _dropped.clear()  # it was heard
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = report
        for number, handler in before.items():
            if handler is not None:  # one that was not set from Python cannot be set again
                signal.signal(number, handler)
    _again()


def _interrupt(signum: int, _: FrameType | None) -> None:
    raise Interrupted(signum)


def _again(*_: Any) -> None:
    if _dropped:
        raise Interrupted(_dropped.pop())
