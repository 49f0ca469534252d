"""The same command again in the same folder: what an earlier attempt left is never taken for the new outcome."""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from experiments import quick
from fake_result import fake_result

from unlearn_cli import cli, pipeline
from unlearn_cli.methods.npo import NPO
from unlearn_cli.sweep import cluster, tasks
from unlearn_cli.sweep.cluster import FRESH_SECONDS, Orders, submit_all, with_jobs
from unlearn_cli.sweep.plan import Plan, Shared
from unlearn_cli.sweep.record import Entry, outcome, outcomes, write
from unlearn_cli.sweep.slurm import Slurm


def leave(folder, failed=False):
    """A result of an earlier attempt."""
    folder.mkdir(parents=True, exist_ok=True)
    result = replace(fake_result(), run_dir=folder)
    if failed:
        result.fail(ValueError("the attempt before"))
    result.write(folder / "result.json")


def test_a_run_that_is_killed_does_not_show_the_result_of_an_earlier_attempt(tmp_path, monkeypatch):
    leave(tmp_path / "0")
    entry = Entry(0, "", [], "0", [])
    assert outcome(tmp_path, entry).state == "ok"

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run_one", killed)
    with pytest.raises(KeyboardInterrupt):
        tasks.run_cell([], [], tmp_path, tmp_path / "0")
    assert outcome(tmp_path, entry).state == "running"


def test_a_run_can_be_repeated_in_its_folder(tmp_path):
    once = pipeline.run(quick(tmp_path), tmp_path / "run")
    again = pipeline.run(quick(tmp_path, method=NPO(steps=4, retain_batch=8)), tmp_path / "run")
    assert (once.status, again.status) == ("ok", "ok")
    assert once.stages["edit"]["digest"] != again.stages["edit"]["digest"]
    assert (tmp_path / "run" / "edited").resolve().name.endswith(again.stages["edit"]["digest"])


@pytest.fixture
def submit(tmp_path, monkeypatch):
    """`submit(queue, shared)` hands four runs to an sbatch that counts, beside a squeue that says `queue`."""
    tools = tmp_path / "bin"
    conf = tmp_path / "conf"
    tools.mkdir()
    conf.mkdir()
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    folder, count = tmp_path / "sweep", tmp_path / "count"
    count.write_text("100")
    _tool(tools / "sbatch", f"n=$(cat {count}); echo $((n + 1)) >{count}; echo $n; cat $2 >>{tmp_path}/scripts")
    entries = [Entry(number, f"run={number}", [], str(number), []) for number in range(4)]
    write(folder, entries, {})

    def carry_out(queue="", waits=None, shared=()):
        _tool(tools / "squeue", f"printf '{queue}'")

        def plan(experiments):
            return Plan(list(shared), {number: frozenset((waits or {}).get(number, ())) for number in experiments})

        monkeypatch.setattr(cluster, "plan", plan)
        experiments = dict.fromkeys(range(4), SimpleNamespace())
        return submit_all(folder, entries, experiments, ["-m"], conf, Slurm(kind="sbatch"))

    return carry_out


def _tool(path, script):
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_what_is_submitted_again_has_no_result_until_it_ends(submit, tmp_path):
    folder = tmp_path / "sweep"
    leave(folder / "0")
    leave(folder / "1", failed=True)
    (folder / "1" / "heartbeat").touch()
    (folder / "2").mkdir()
    (folder / "2" / "result.json").write_text("{ torn")
    assert submit() == {1: "100_1", 2: "100_2", 3: "100_3"}
    assert [found.state for found in outcomes(folder)] == ["ok", "running", "running", "waiting"]
    assert not (folder / "1" / "heartbeat").exists()
    _tool(tmp_path / "bin" / "squeue", "printf '100_1 PENDING\n100_2 RUNNING\n100_3 PENDING\n'")
    states = [found.state for found in with_jobs(folder, outcomes(folder))]
    assert states == ["ok", "waiting", "running", "waiting"]


def test_a_run_that_ends_between_two_looks_is_not_lost(submit, tmp_path):
    """It had no result yet, and has no job any more."""
    folder = tmp_path / "sweep"
    submit()
    _tool(tmp_path / "bin" / "squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    for number, age in (("0", 0), ("1", FRESH_SECONDS + 5)):
        (folder / number).mkdir(exist_ok=True)
        beat = folder / number / "heartbeat"
        beat.touch()
        os.utime(beat, (time.time() - age,) * 2)
    states = [found.state for found in with_jobs(folder, outcomes(folder))]
    assert states == ["running", "failed", "failed", "failed"]


def test_what_has_a_job_is_not_submitted_twice(submit, tmp_path):
    base, gold = Shared("aa", "base", 0, "train"), Shared("bb", "gold", 2, "gold", after=["aa"])
    first = submit("", {0: ["aa"], 1: ["aa"]}, [base])
    assert first == {0: "101_0", 1: "101_1", 2: "102_2", 3: "102_3"}
    again = submit(r"100 RUNNING\n101_0 PENDING\n102_2 COMPLETED\n", {1: ["aa"], 2: ["bb"], 3: ["bb"]}, [base, gold])
    assert again == {1: "104_1", 2: "105_2", 3: "105_3"}
    jobs = json.loads((tmp_path / "sweep" / "jobs.json").read_text())
    assert jobs == {"aa": "100", "bb": "103", "0": "101_0", "1": "104_1", "2": "105_2", "3": "105_3"}
    waiting = re.findall(r"--dependency=afterany:(\S+)", (tmp_path / "scripts").read_text())
    assert waiting == ["100", "100", "100", "103"]
    orders = Orders.read(tmp_path / "sweep")
    assert orders.waits == {0: ["aa"], 1: ["aa"], 2: ["bb"], 3: ["bb"]}
    assert orders.stages == {"aa": base, "bb": gold}
