"""A sweep on one machine: whatever becomes of a run, the others end well and everything is written down."""

from __future__ import annotations

import io
import os
import signal
import threading
from types import SimpleNamespace

import pytest
import sweep_stub
from rich.console import Console
from rich.live import Live

from unlearn_cli.sweep import local
from unlearn_cli.sweep.local import LocalSweep
from unlearn_cli.sweep.plan import Plan, Shared
from unlearn_cli.sweep.progress import Progress
from unlearn_cli.sweep.record import Entry, outcomes, write


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """`sweep(ends, parallel, shared)` carries out runs that end so; returns the exit status."""
    monkeypatch.setattr(local, "run_cell", sweep_stub.run_cell)
    monkeypatch.setattr(local, "make_shared", sweep_stub.make_shared)

    def carry_out(ends, parallel=2, shared=(), waits=None, well=True, live=None):
        entries = [Entry(n, f"run={n}", [f"end={end}"], f"{n}", []) for n, end in enumerate(ends)]
        write(tmp_path, entries, {})
        experiments = {n: _Picklable(str(tmp_path), well) for n in range(len(ends))}
        waits = waits or {}
        found = Plan(list(shared), {n: frozenset(waits.get(n, ())) for n in range(len(ends))})
        monkeypatch.setattr(local, "plan", lambda _: found)
        progress = Progress(len(entries), 0)
        progress.live = live
        made = LocalSweep(tmp_path, entries, experiments, [], tmp_path, progress)
        return made.carry_out(parallel)

    return carry_out


class _Picklable(tuple):
    """Stands for an experiment: what `sweep_stub.make_shared` reads, and the names that a result needs."""

    def __new__(cls, folder, well):
        return super().__new__(cls, (folder, well))

    def __getnewargs__(self):
        return tuple(self)

    seed, name, replica = 0, None, 0
    trainer = SimpleNamespace(threads=1, accelerator="cpu")

    def chosen(self, group):
        return group


@pytest.mark.parametrize("parallel", [1, 2, 3])
def test_all_well(sweep, tmp_path, parallel):
    assert sweep(["ok"] * 4, parallel) == 0
    assert sorted(sweep_stub.log_of(tmp_path)) == [f"run {n}" for n in range(4)]
    assert {found.state for found in outcomes(tmp_path)} == {"ok"}
    assert (tmp_path / "2" / "console.log").read_text() == "this run is to ok\n"


def test_no_run_stops_or_hides_another(sweep, tmp_path, capsys):
    assert sweep(["kill", "ok", "exit", "fail", "raise", "ok"]) == 1
    assert sweep_stub.results(tmp_path) == {
        "0": ("failed", "its process was killed by SIGKILL: out of memory?"),
        "1": ("ok", None),
        "2": ("failed", "its process ended with status 3; console.log has what it printed"),
        "3": ("failed", "no luck"),
        "4": ("failed", "its process ended with status 1; console.log has what it printed"),
        "5": ("ok", None),
    }
    assert "ZeroDivisionError: a bug of ours" in (tmp_path / "4" / "console.log").read_text()
    said = capsys.readouterr().err
    assert "[6/6]" in said and "failed run=0: its process was killed by SIGKILL" in said


def test_in_one_process_a_run_that_exits_does_not_end_the_sweep(sweep, tmp_path):
    assert sweep(["exit", "ok"], parallel=1) == 1
    assert sweep_stub.results(tmp_path)["1"] == ("ok", None)


def test_beside_a_live_display_runs_have_a_process_of_their_own(sweep, tmp_path):
    page = Live(console=Console(file=io.StringIO()))
    assert sweep(["kill", "ok"], parallel=1, live=page) == 1
    assert [found.state for found in outcomes(tmp_path)] == ["failed", "ok"]


def test_shared_stages_are_made_once_and_first(sweep, tmp_path):
    shared = [Shared("a", "base", 0, "train"), Shared("b", "gold", 0, "gold", 2)]
    waits = {0: "ab", 1: "ab", 2: "", 3: "a"}
    assert sweep(["ok"] * 4, 2, shared, waits) == 0
    log = sweep_stub.log_of(tmp_path)
    assert sorted(log) == ["run 0", "run 1", "run 2", "run 3", "stage gold 2", "stage train 0"]
    assert max(log.index("stage train 0"), log.index("stage gold 2")) < min(log.index("run 0"), log.index("run 1"))
    assert log.index("stage train 0") < log.index("run 3")


def test_what_waits_for_a_stage_that_failed_is_not_run(sweep, tmp_path):
    shared = [Shared("a", "base tabular", 0, "train"), Shared("b", "preparation", 1, "prepare", after=["a"])]
    assert sweep(["ok", "ok", "ok"], 2, shared, {0: "a", 1: "ab"}, well=False) == 1
    assert sorted(sweep_stub.log_of(tmp_path)) == ["run 2", "stage train 0"]
    found = {item.entry.folder: (item.state, item.error) for item in outcomes(tmp_path)}
    assert found == {
        "0": ("failed", "train: base tabular: recall is 0.3"),
        "1": ("failed", "train: base tabular: recall is 0.3"),
        "2": ("ok", ""),
    }


def test_a_stage_waits_for_the_stage_that_it_is_made_from(sweep, tmp_path):
    shared = [Shared("b", "preparation", 0, "prepare", after=["a"]), Shared("a", "base", 0, "train")]
    assert sweep(["ok", "ok"], 2, shared, {0: "ab", 1: "ab"}) == 0
    log = sweep_stub.log_of(tmp_path)
    assert log[:2] == ["stage train 0", "stage prepare 0"]
    assert sorted(log[2:]) == ["run 0", "run 1"]


def test_an_earlier_result_is_not_that_of_a_run_whose_stage_failed(sweep, tmp_path):
    assert sweep(["ok", "ok"]) == 0
    assert sweep(["ok", "ok"], 2, [Shared("a", "base", 0, "train")], {1: "a"}, well=False) == 1
    assert sweep_stub.results(tmp_path) == {"0": ("ok", None), "1": ("failed", "base: recall is 0.3")}


def test_an_interruption_ends_the_runs_and_says_so(sweep, tmp_path):
    timer = threading.Timer(4, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    assert sweep(["wait"] * 3) == 143
    assert sorted(sweep_stub.log_of(tmp_path)) == ["run 0", "run 1"]
    assert [found.state for found in outcomes(tmp_path)] == ["running", "running", "waiting"]


def test_an_interruption_reaches_runs_whose_shell_had_them_ignore_it(sweep, tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as of a command behind `nohup` or `&`; processes inherit it
    try:
        test_an_interruption_ends_the_runs_and_says_so(sweep, tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_killed_process_is_replaced(sweep, tmp_path):
    assert sweep(["kill", "kill", "kill", "ok"], parallel=2) == 1
    assert sweep_stub.results(tmp_path)["3"] == ("ok", None)
