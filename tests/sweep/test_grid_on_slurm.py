"""A grid on a real SLURM, with faults injected from outside: what ends well is the same as without any, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from on_slurm import FAULTY, SLURM, TINY, ended, until

from unlearn_cli.sweep.cluster import LOST
from unlearn_cli.sweep.record import outcomes

PINNED = ["trainer.threads=1", "trainer.precision=fp32", "trainer.accelerator=cpu"]
GRID = [FAULTY, *PINNED, "method=faulty_once,noop,npo,graddiff", "edit.n=3,4", "seed=0,1,2"]
FAULTS = ("memory", "wait-for-cancel", "wait-for-kill")


def taken(folder, fault):
    """Process and run that met a fault."""
    end = time.monotonic() + 1200
    while not (folder / f"{fault}.pid").exists():
        assert time.monotonic() < end, f"no run has met {fault}"
        time.sleep(0.5)
    time.sleep(0.5)
    return tuple(map(int, (folder / f"{fault}.pid").read_text().split()))


def numbers_and_weights(folder):
    """Of every run that ended well: its metrics, and the digest of the file that holds the edited model."""
    found = {}
    for item in outcomes(folder):
        if item.state == "ok":
            files = json.loads((folder / item.entry.folder / "edited" / "done.json").read_text())["files"]
            found[item.entry.label] = (item.result.metrics, files["model.safetensors"]["sha256"])
    return found


def made(folder):
    """How often each base and gold was computed by a run, and the digests of all of them."""
    stages = [item.result.stages[name] for item in outcomes(folder) for name in ("train", "gold")]
    return Counter(stage["digest"] for stage in stages if not stage["cached"]), {stage["digest"] for stage in stages}


@pytest.mark.slurm
@pytest.mark.slow
def test_a_grid_with_faults_ends_like_one_without(unlearn_there, tmp_path):
    faults = tmp_path / "faults"
    faults.mkdir()
    for fault in FAULTS:
        (faults / f"{fault}.left").touch()
    told = unlearn_there("-m", *TINY, *SLURM, *GRID, UNLEARN_FAULTS=str(faults))
    assert "24 of 24 runs submitted" in told.stderr, told.stderr
    folder = Path(told.stdout.splitlines()[-1])
    jobs = json.loads((folder / "jobs.json").read_text())

    _, too_big = taken(faults, "memory")
    _, cancelled = taken(faults, "wait-for-cancel")
    subprocess.run(["scancel", jobs[str(cancelled)]], check=True)
    process, killed = taken(faults, "wait-for-kill")
    os.kill(process, signal.SIGKILL)
    until(folder, 1800, ended)
    status = unlearn_there("status", str(folder))
    assert status.returncode == 1
    found = outcomes(folder)
    assert [item.entry.number for item in found if item.state != "ok"] == sorted([too_big, cancelled, killed])
    counts = status.stdout.splitlines()[-1]
    assert counts.startswith("24 runs: ") and "21 ok" in counts
    (lost,) = [line for line in status.stdout.splitlines() if LOST in line]
    assert lost.startswith("failed") and found[killed].entry.label in lost

    again = ["-m", *TINY, *SLURM, *GRID, f"hydra.sweep.dir={folder}"]
    assert "3 of 24 runs submitted" in unlearn_there(*again).stderr
    found = until(folder, 900, ended)
    assert {item.state for item in found.values()} == {"ok"}
    by_runs, shared = made(folder)
    assert len(shared) == 3 + 6  # a base for each seed, a gold for each seed and edit.n
    assert not by_runs
    assert len(list((folder / "jobs").glob("stage-*.log"))) == len(shared)

    before = (folder / "jobs.json").read_text()
    assert "0 of 24 runs submitted" in unlearn_there(*again).stderr
    assert (folder / "jobs.json").read_text() == before

    alone = unlearn_there("-m", *TINY, *GRID, f"paths.cache={tmp_path / 'other'}", "sweep.parallel=2")
    assert alone.returncode == 0, alone.stderr
    here, there = numbers_and_weights(Path(alone.stdout.splitlines()[-1])), numbers_and_weights(folder)
    assert len(here) == 24
    assert here == there
