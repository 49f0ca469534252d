"""Signals as an exception, also where Python drops exceptions."""

import os
import signal
import sys
import time
from types import SimpleNamespace

import pytest

from unlearn_cli.errors import Interrupted
from unlearn_cli.interrupts import interruptible


class Dying:
    """Is told to end while it is being taken away."""

    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):
            pass


def wait() -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        time.sleep(0.01)


def test_a_signal_is_an_exception_with_the_status_of_a_shell():
    with pytest.raises(Interrupted) as raised, interruptible(signal.SIGTERM, signal.SIGINT):
        os.kill(os.getpid(), signal.SIGINT)
        wait()
    assert raised.value.exit_status == 130


def test_one_inside_a_finaliser_is_raised_again_and_not_printed(capsys):
    started = time.monotonic()
    with pytest.raises(Interrupted) as raised, interruptible(signal.SIGTERM):
        Dying()
        wait()
    assert raised.value.exit_status == 143 and time.monotonic() - started < 5
    assert capsys.readouterr().err == ""


def test_one_from_just_before_a_part_began_is_raised_in_it():
    reached = []
    with pytest.raises(Interrupted), interruptible(signal.SIGTERM, signal.SIGINT):
        Dying()
        with interruptible(signal.SIGTERM):
            reached.append(time.monotonic())
            wait()
    assert reached and time.monotonic() - reached[0] < 5


def test_one_that_was_heard_is_not_raised_again():
    with pytest.raises(Interrupted), interruptible(signal.SIGTERM, signal.SIGINT):
        Dying()
        os.kill(os.getpid(), signal.SIGINT)
        wait()
    with interruptible(signal.SIGTERM):
        time.sleep(0.1)


def test_one_that_nobody_could_hear_is_raised_where_what_failed_ends():
    with pytest.raises(Interrupted) as raised, interruptible(signal.SIGTERM), interruptible(signal.SIGINT):
        Dying()
        raise ValueError("a failure of its own")
    assert raised.value.exit_status == 143 and isinstance(raised.value.__cause__, ValueError)
    with interruptible(signal.SIGTERM):
        time.sleep(0.1)


def test_an_alarm_of_somebody_else_is_left_alone():
    heard = []
    before = signal.signal(signal.SIGALRM, lambda *_: heard.append(True))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with interruptible(signal.SIGTERM):
            time.sleep(0.01)
        time.sleep(0.2)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert heard == [True]


def test_one_inside_the_last_finaliser_is_raised_at_the_end():
    ended = False
    with pytest.raises(Interrupted), interruptible(signal.SIGTERM):
        Dying()
        ended = True
    assert ended
    time.sleep(0.1)  # nothing comes after it


def test_other_errors_of_finalisers_are_told_as_ever(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    with interruptible(signal.SIGTERM):
        sys.unraisablehook(SimpleNamespace(exc_value=ValueError("mine")))
    assert [str(one.exc_value) for one in told] == ["mine"]


def test_signals_that_are_ignored_stay_so_and_all_is_put_back():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    hook, alarm = sys.unraisablehook, signal.getsignal(signal.SIGALRM)
    try:
        with interruptible(signal.SIGTERM):
            os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
    assert sys.unraisablehook is hook and signal.getsignal(signal.SIGALRM) == alarm
