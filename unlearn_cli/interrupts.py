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
    report, before = sys.unraisablehook, dict[int, Any]()

    def hear(unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, Interrupted):
            report(unraisable)
            return
        _dropped.append(unraisable.exc_value.signum)
        before.setdefault(signal.SIGALRM, signal.signal(signal.SIGALRM, _again))
        signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)  # a thread cannot be started inside a finaliser

    heeded = [number for number in signals if signal.getsignal(number) != signal.SIG_IGN]
    before |= {number: signal.signal(number, _interrupt) for number in heeded}
    sys.unraisablehook = hear
    try:
        yield
    except Interrupted:
        raise
    except BaseException as error:
        if _dropped:  # the end of what failed is the first place where it can be heard
            raise Interrupted(_dropped.pop()) from error
        raise
    finally:
        if signal.SIGALRM in before:
            signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = report
        for number, handler in before.items():
            if handler is not None:  # one that was not set from Python cannot be set again
                signal.signal(number, handler)
    _again()


def _interrupt(signum: int, _: FrameType | None) -> None:
    _dropped.clear()  # one is enough
    raise Interrupted(signum)


def _again(*_: Any) -> None:
    if _dropped:
        raise Interrupted(_dropped.pop())
