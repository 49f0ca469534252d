"""Sweeps on a real SLURM of one node: every way in which a job can end, and what the sweep then says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from on_slurm import FAULTY, TINY, ended, until
from on_slurm import SLURM as CLUSTER

from unlearn_cli.errors import UnlearnError
from unlearn_cli.sweep.cluster import LOST
from unlearn_cli.sweep.slurm import Job, Slurm, _ranges, _script, submit

SLURM = [*CLUSTER, FAULTY]


def test_numbers_of_an_array():
    assert _ranges([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"
    assert _ranges([3]) == "3"


def test_the_script_says_what_was_asked_for(tmp_path):
    slurm = Slurm(
        kind="sbatch",
        partition="gpu",
        account="lab",
        minutes=90,
        memory_gb=16,
        cpus=4,
        gpus=1,
        at_once=3,
        lines=["--constraint=a100"],
        setup=["module load cuda"],
    )
    job = Job("runs-0", ["run"], [0, 1, 4], ["17", "18"])
    lines = _script(job, tmp_path, slurm, {"PYTHONPATH": "/a b"}).splitlines()
    assert lines[0] == "#!/bin/bash"
    assert {line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")} == {
        "--job-name=unlearn-runs-0",
        f"--output={tmp_path}/jobs/runs-0-%a.log",
        "--partition=gpu",
        "--account=lab",
        "--time=90",
        "--mem=16G",
        "--cpus-per-task=4",
        "--gpus=1",
        "--requeue",
        "--open-mode=append",
        "--signal=B:USR1@60",
        "--constraint=a100",
        "--array=0-1,4%3",
        "--dependency=afterany:17:18",
    }
    assert "export PYTHONPATH='/a b'" in lines
    assert lines.index("module load cuda") < len(lines) - 1
    assert lines[-1] == f"exec {sys.executable} -m unlearn_cli.sweep.job {tmp_path} run ${{SLURM_ARRAY_TASK_ID}}"


def test_without_a_cluster_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnlearnError, match="there is no sbatch here"):
        submit(Job("a", ["run"]), tmp_path, Slurm(kind="sbatch"), {})


def test_what_sbatch_refuses_is_told(tmp_path, monkeypatch):
    fake = tmp_path / "sbatch"
    fake.write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified: gpuu' >&2; exit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(UnlearnError, match="invalid partition specified: gpuu"):
        submit(Job("a", ["run"]), tmp_path, Slurm(kind="sbatch"), {})


@pytest.mark.slurm
def test_a_sweep_runs_there_with_its_shared_stages_made_once(unlearn_there, tmp_path):
    told = unlearn_there("-m", *TINY, *SLURM, "method=noop,faulty", "seed=0", "method_end=1")
    assert told.returncode == 2  # a wrong name is refused before anything is submitted
    told = unlearn_there("-m", *TINY, *SLURM, "method=noop,faulty,ft", "seed=0")
    folder = Path(told.stdout.splitlines()[-1])
    found = until(folder, 240, ended)
    assert {label: item.state for label, item in found.items()} == {
        "method=noop": "ok",
        "method=faulty": "ok",
        "method=ft": "refused",
    }
    stages = [item.result.stages for item in found.values() if item.result]
    assert all(stage[name]["cached"] for stage in stages for name in ("train", "gold"))
    assert len({stage["train"]["digest"] for stage in stages}) == 1
    logs = sorted(path.name for path in (folder / "jobs").glob("*.log"))
    assert len([name for name in logs if name.startswith("stage-")]) == 2
    assert (folder / "code" / "unlearn_cli" / "cli.py").exists()
    status = unlearn_there("status", str(folder))
    assert "3 runs: 2 ok, 1 refused" in status.stdout


@pytest.mark.slurm
@pytest.mark.slow
def test_whatever_ends_a_job_the_others_end_well_and_the_sweep_says_what_it_was(unlearn_there, tmp_path):
    told = unlearn_there(
        "-m", *TINY, *SLURM, "method=faulty", "method.end=well,kill,memory,error,wait,setting", "seed=0"
    )
    folder = Path(told.stdout.splitlines()[-1])
    jobs = json.loads((folder / "jobs.json").read_text())
    until(folder, 300, lambda all_: all_[4].state == "running" and all_[0].state == "ok")
    subprocess.run(["scancel", jobs["4"]], check=True)
    found = until(folder, 300, ended)
    states = {label.partition("=")[2]: (item.state, item.error) for label, item in found.items()}
    assert states["well"] == ("ok", "")
    assert states["kill"] == ("failed", LOST)
    assert states["memory"][0] == "failed"
    assert states["error"] == ("failed", "edit: a bug of the method")
    assert states["setting"] == ("failed", "edit: method.end: 'setting' given; this model has no such end")
    assert states["wait"][0] in ("interrupted", "failed")
    status = unlearn_there("status", str(folder))
    assert status.returncode == 1
    (lost,) = [line for line in status.stdout.splitlines() if LOST in line]
    assert lost.startswith("failed") and "method.end=kill" in lost
    assert "failed: method.end=error: edit: a bug of the method" in status.stdout
    assert status.stdout.splitlines()[-1].startswith("6 runs: ")
    again = unlearn_there(
        "-m",
        *TINY,
        *SLURM,
        "method=faulty",
        "method.end=well,kill,memory,error,wait,setting",
        "seed=0",
        f"hydra.sweep.dir={folder}",
    )
    assert again.returncode == 0, again.stderr
    assert "--array=1-5%" in (folder / "jobs" / "runs-0.sh").read_text(), "what ended well is not submitted again"
    subprocess.run(["scancel", *json.loads((folder / "jobs.json").read_text()).values()], check=True)


@pytest.mark.slurm
@pytest.mark.slow
def test_a_preempted_run_goes_on_and_ends_like_one_that_was_not(unlearn_there, tmp_path):
    words = [
        *TINY,
        "method=noop",
        "seed=0",
        "train.check_every=100000",
        "train.max_passes=1500",
        "train.decay_passes=1500",
    ]
    words += ["trainer.checkpoint_seconds=1", "trainer.side_by_side=false", "gold.n=0"]
    told = unlearn_there("-m", *words, *SLURM, "slurm.partition=main")
    folder = Path(told.stdout.splitlines()[-1])
    until(folder, 120, lambda all_: any((tmp_path / "cache").rglob("*state.pt")))
    subprocess.run(
        ["sbatch", "--partition=urgent", "--exclusive", "--mem=0", "--wrap=sleep 5", "--output=/dev/null"],
        check=True,
        capture_output=True,
    )
    found = until(folder, 400, lambda all_: all_[0].state == "ok")
    (log,) = (folder / "jobs").glob("runs-0-*.log")
    assert (
        "goes on at step"
        in (folder / found["" if "" in found else next(iter(found))].entry.folder / "unlearn.log").read_text()
        + log.read_text()
    )
    alone = unlearn_there(*words, f"paths.cache={tmp_path / 'other'}")
    mine = json.loads((Path(alone.stdout.splitlines()[-1]) / "result.json").read_text())["metrics"]
    theirs = next(iter(found.values())).result.metrics
    assert {key: item["value"] for key, item in mine.items()} == {key: item["value"] for key, item in theirs.items()}
