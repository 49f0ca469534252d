"""A paper's table whose runs go to a real SLURM: submitted by one call, waited for by the next, made by the last."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from on_slurm import SLURM, TINY, ended, until
from subprocess_env import ENVIRONMENT

ROOT = Path(__file__).parents[2]
CONF = """# @package _global_
defaults:
  - override /edit: remap
  - override /method: ft
gold:
  n: 0
hydra:
  mode: MULTIRUN
  sweeper:
    params:
      method.adapter.rank: 2
      seed: 0,1
table:
  title: quick
  sweeps:
    lora: []
    full: [method.adapter.rank=0]
  rows: [method.adapter.rank]
  columns: {success: fact_accuracy/edited, kept: fact_accuracy/retain/unseen}
"""


@pytest.mark.slurm
@pytest.mark.slow
def test_a_table_is_made_once_its_jobs_have_ended(cluster, tmp_path, monkeypatch):
    for name, value in cluster.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "quick.yaml").write_text(CONF)
    environment = ENVIRONMENT | cluster | {"UNLEARN_CACHE": str(tmp_path / "cache")}
    words = [*TINY, *(word for word in SLURM if not word.startswith("slurm=")), "method.steps=4", "edit.n=2"]

    def table():
        command = [sys.executable, ROOT / "scripts" / "table.py", "quick", "--slurm", "cluster"]
        command += [f"--config-dir={tmp_path / 'conf'}", *words]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    submitted = table()
    assert submitted.returncode == 0, submitted.stderr
    assert "4 of 4 runs have not ended" in submitted.stdout and not (tmp_path / "tables").exists()
    for part in ("lora", "full"):
        found = until(tmp_path / "runs" / "tables" / "quick" / part, 600, ended)
        assert {item.state for item in found.values()} == {"ok"}
    made = table()
    assert made.returncode == 0, made.stderr
    rows = list(csv.DictReader((tmp_path / "tables" / "quick.csv").open()))
    assert {(row["method.adapter.rank"], row["seeds"]) for row in rows} == {("2", "2"), ("0", "2")}
