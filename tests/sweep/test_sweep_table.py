"""The end of a sweep's table: what did not end well, without a line for each of hundreds of runs."""

from __future__ import annotations

from fake_result import fake_result

from unlearn_cli.report.sweep_table import table
from unlearn_cli.sweep.record import Entry, Outcome


def run(number, label, state="ok", error=""):
    return Outcome(Entry(number, label, [], label, []), state, error, 1.0, fake_result() if state == "ok" else None)


def test_equal_reasons_are_one_line_with_the_first_runs():
    contradiction = "method: ft takes remap edits; edit=forget is forget"
    outcomes = [run(n, f"method=ft seed={n}", "refused", contradiction) for n in range(200)]
    outcomes += [run(200, "method=npo seed=0"), run(201, "method=ga seed=0", "failed", "train: no luck")]
    outcomes += [run(202 + n, f"method=ga seed={n + 1}", "interrupted") for n in range(2)]
    lines = table(outcomes).splitlines()
    assert [line.split()[:2] for line in lines[:3]] == [["setting", "ok"], ["method=npo", "1/1"], ["method=ga", "0/3"]]
    assert lines[3:] == [
        f"refused 200 runs: method=ft seed=0, method=ft seed=1, method=ft seed=2, and 197 more: {contradiction}",
        "failed: method=ga seed=0: train: no luck",
        "interrupted 2 runs: method=ga seed=1, method=ga seed=2",
        "204 runs: 200 refused, 1 ok, 1 failed, 2 interrupted",
    ]
