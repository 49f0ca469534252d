"""What a sweep says while it runs: five numbers, on a terminal and in a log."""

from __future__ import annotations

import io
import sys

import pytest
from fake_result import fake_result
from rich.console import Console

from unlearn_cli.sweep import progress as module
from unlearn_cli.sweep.progress import SHOWN, Progress
from unlearn_cli.sweep.record import Entry, Outcome


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when told."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def ended(label, state="ok", seconds=3.0, error=""):
    return Outcome(Entry(0, label, [], label, []), state, error, seconds, fake_result())


def carry_out(progress, clock, outcomes, each=10.0):
    for item in outcomes:
        progress.begins(item.entry.label)
        clock[0] += each
        progress.ends(item.entry.label, item)


def text_of(progress):
    console = Console(file=io.StringIO(), width=60)
    console.print(progress.page())
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_the_five_numbers(clock):
    progress = Progress(10, refused=2)
    assert progress.left() == ""
    carry_out(progress, clock, [ended("a"), ended("b", "failed", error="no luck"), ended("c")])
    carry_out(progress, clock, [ended("d", seconds=0.0)], each=0.0)
    progress.begins("run=e")
    clock[0] += 125
    progress.begins("base s0")
    assert progress.counts() == "2 done, 1 cached, 2 running, 1 failed, 2 refused"
    assert progress.left() == "about 5 min left"  # 155 s for three that were computed, six to go
    lines = text_of(progress)
    assert lines[0].startswith("4 of 10 runs ━") and lines[0].endswith("about 5 min left")
    assert lines[1:] == [progress.counts(), "   2 min  run=e", "     0 s  base s0"]


def test_the_display_does_not_grow_with_what_runs(clock):
    progress = Progress(50, 0)
    for number in range(20):
        progress.begins(f"run={number}")
    assert len(text_of(progress)) == 2 + SHOWN + 1
    assert text_of(progress)[-1] == f"  and {20 - SHOWN} more"


def test_a_log_gets_every_fault_and_few_other_lines(clock, capsys):
    outcomes = [ended(f"run={n}") for n in range(200)]
    outcomes[70] = ended("run=70", "failed", error="no luck")
    carry_out(Progress(200, 0), clock, outcomes, each=0.5)
    lines = capsys.readouterr().err.splitlines()
    assert "[71/200] failed run=70: no luck (70 done, 0 cached, 0 running, 1 failed, about 64 s left)" in lines
    assert lines[-1] == "[200/200] ok run=199 (199 done, 0 cached, 0 running, 1 failed)"
    assert 9 <= len(lines) <= 12  # one in ten seconds of a hundred


def test_a_terminal_gets_faults_as_lines_that_stay(clock, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    progress = Progress(2, 0)
    assert progress.live is not None
    carry_out(progress, clock, [ended("run=0"), ended("run=1", "failed", error="no luck")])
    assert terminal.getvalue() == "[2/2] failed run=1: no luck\n"
