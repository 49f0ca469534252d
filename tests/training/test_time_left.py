"""Progress of an edit: time left on a terminal, and in the lines of a log file."""

from __future__ import annotations

import io
import logging
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
from experiments import quick

from unlearn_cli.pipeline import run
from unlearn_cli.training import progress


def test_lines_of_a_log_tell_the_time_left(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    experiment = quick(tmp_path)
    watched = replace(experiment, trainer=replace(experiment.trainer, progress=True))
    with caplog.at_level(logging.INFO):
        assert run(watched, tmp_path / "run").status == "ok"
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("edit: step ")]
    assert len(lines) == 5
    assert re.fullmatch(r"edit: step 5 of at most 5, 0:00:00 left, loss .+ accuracy .+", lines[-1])


def test_what_is_left_follows_the_pace_of_this_attempt(monkeypatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock.now)
    shown = progress.Progress("edit", 110, shown=False)
    shown.on_train_start(None, SimpleNamespace(taken=10))  # it goes on at its tenth step
    clock.now += 30.0
    assert shown._left(20) == "0:04:30"  # 3 s each, 90 to go


@pytest.mark.parametrize("stage", ["train", "edit"])
def test_a_terminal_shows_the_time_left(monkeypatch, stage):
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", screen)
    shown = progress.Progress(stage, 40, shown=True)
    module = SimpleNamespace(taken=0, runtime=SimpleNamespace(curves=[{"loss": 0.5}]))
    shown.on_train_start(None, module)
    columns = [type(column).__name__ for column in shown.bar.columns]
    for module.taken in (10, 20):
        shown.on_train_batch_end(None, module)
    assert "TimeRemainingColumn" in columns and shown.bar.tasks[0].completed == 20
    shown.on_train_end()
    assert stage in screen.getvalue() and shown.bar is None
