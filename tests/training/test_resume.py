"""A loop that was stopped goes on where it was, and ends with exactly the numbers of one that was not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from experiments import quick
from safetensors.torch import load_file
from subprocess_env import ENVIRONMENT

from unlearn_cli.cache import Cache
from unlearn_cli.cache.layout import partial_path
from unlearn_cli.errors import Interrupted
from unlearn_cli.interrupts import interruptible
from unlearn_cli.pipeline import run
from unlearn_cli.stages import base_stage
from unlearn_cli.study import Study
from unlearn_cli.training.resume import Resume, Slot, undisturbed

HERE = Path(__file__).resolve().parent.parent


def weights(result, stage):
    return load_file(Path(result.stages[stage]["path"]) / "model.safetensors")


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def stop_at(monkeypatch, stage, step, error):
    """Raise between the steps of one loop."""
    from unlearn_cli.training import loop

    original = loop._Loop._record

    def record(self, row):
        original(self, row)
        if self.runtime.stage == stage and row["step"] == step and self.earlier is None:
            error()

    monkeypatch.setattr(loop._Loop, "_record", record)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nobody stopped."""
    return run(quick(tmp_path_factory.mktemp("whole")))


@pytest.mark.parametrize(("stage", "step"), [("train", 7), ("gold", 12), ("edit", 3)])
def test_an_interrupted_stage_goes_on_at_its_step_to_the_same_bits(tmp_path, monkeypatch, whole, stage, step, caplog):
    with monkeypatch.context() as patched:
        stop_at(patched, stage, step, lambda: os.kill(os.getpid(), signal.SIGTERM))
        before = signal.signal(signal.SIGTERM, lambda signum, _: (_ for _ in ()).throw(Interrupted(signum)))
        try:
            first = run(quick(tmp_path))
        finally:
            signal.signal(signal.SIGTERM, before)
    assert (first.status, first.exit_status, first.error["stage"]) == ("interrupted", 143, stage)
    caplog.set_level("INFO")
    second = run(quick(tmp_path))
    assert second.status == "ok"
    assert f"{stage}: goes on at step {step}" in caplog.text
    for name in ("train", "gold", "edit"):
        assert same(weights(second, name), weights(whole, name))
        ours, theirs = (Path(result.stages[name]["path"]) / "curves.csv" for result in (second, whole))
        assert ours.read_bytes() == theirs.read_bytes()
    values = {key: item["value"] for key, item in second.metrics.items() if not key.startswith("cost/")}
    assert values == {key: item["value"] for key, item in whole.metrics.items() if not key.startswith("cost/")}
    for name in ("steps", "flops", "trainable_parameters"):
        assert second.metrics[f"cost/{name}"] == whole.metrics[f"cost/{name}"]
    assert not list(tmp_path.rglob("*state.pt"))


def test_an_interrupt_that_python_drops_between_steps_ends_the_loop_behind_one(tmp_path, monkeypatch, whole):
    """What a signal's handler raises inside a finaliser goes nowhere; raised again, it must not cut a step in two."""
    from unlearn_cli.training import loop

    class Dying:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.001)  # it is raised in here

    begin, descend = loop._Loop.training_step, loop._Loop._descend
    told = []

    def begun(self, number):
        if self.runtime.stage == "train" and number == 6 and not told:
            told.append(number)
            Dying()
        begin(self, number)

    def slow(self, *given):
        descend(self, *given)
        if told == [self.taken]:
            time.sleep(0.2)  # longer than until it is raised again

    with monkeypatch.context() as patched:
        patched.setattr(loop._Loop, "training_step", begun)
        patched.setattr(loop._Loop, "_descend", slow)
        with interruptible(signal.SIGTERM):
            first = run(quick(tmp_path))
    assert (first.status, first.exit_status) == ("interrupted", 143)
    again = run(quick(tmp_path))
    assert again.status == "ok" and same(weights(again, "train"), weights(whole, "train"))


def test_a_killed_stage_goes_on_from_its_last_save(tmp_path, whole):
    script = (
        "import sys; from pathlib import Path; from dataclasses import replace; from experiments import quick;"
        "from unlearn_cli.pipeline import run; from unlearn_cli.training import loop;"
        "import os, signal; original = loop._Loop._record\n"
        "def record(self, row):\n"
        "    original(self, row)\n"
        "    if row['step'] == 20: os.kill(os.getpid(), signal.SIGKILL)\n"
        "loop._Loop._record = record\n"
        "start = quick(Path(sys.argv[1]))\n"
        "run(replace(start, trainer=replace(start.trainer, checkpoint_seconds=1e-6)))\n"
    )
    environment = ENVIRONMENT | {"PYTHONPATH": f"{HERE}{os.pathsep}{ENVIRONMENT['PYTHONPATH']}"}
    killed = subprocess.run([sys.executable, "-c", script, tmp_path], env=environment, capture_output=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (state,) = tmp_path.rglob("*state.pt")
    assert torch.load(state, weights_only=True)["step"] == 19
    start = quick(tmp_path)
    again = run(replace(start, trainer=replace(start.trainer, checkpoint_seconds=0.1)))
    assert same(weights(again, "train"), weights(whole, "train"))


def test_a_damaged_state_is_left_alone(tmp_path, whole, caplog):
    first = quick(tmp_path)
    place = partial_path(Cache(Path(first.paths.cache)).folder(base_stage(Study.of(first)))) / "resume" / "1-state.pt"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"half a file")
    assert same(weights(run(first), "train"), weights(whole, "train"))
    assert "cannot be read, so this stage begins anew" in caplog.text


def test_a_state_is_written_whole_or_not_at_all(tmp_path, monkeypatch, caplog):
    slot = Resume(tmp_path / "resume", 60.0).slot()
    slot.save({"step": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    slot.save({"step": 2})
    assert slot.load() == {"step": 1}
    assert [path.name for path in (tmp_path / "resume").iterdir()] == ["1-state.pt"]
    assert "No space left on device" in caplog.text


def test_loops_of_one_stage_have_states_of_their_own(tmp_path):
    resume = Resume(tmp_path, 60.0)
    assert [resume.slot().path.name for _ in range(3)] == ["1-state.pt", "2-state.pt", "3-state.pt"]


def test_a_save_is_due_after_its_seconds(tmp_path):
    slot = Slot(tmp_path / "state.pt", 0.05)
    assert not slot.due
    time.sleep(0.06)
    assert slot.due
    slot.save({})
    assert not slot.due


def test_signals_wait_until_a_step_is_whole():
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append("told"))
    try:
        with undisturbed():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
            seen.append("done")
        assert seen == ["done", "told"]
        os.kill(os.getpid(), signal.SIGTERM)
        assert seen == ["done", "told", "told"]
    finally:
        signal.signal(signal.SIGTERM, before)
