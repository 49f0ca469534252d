"""A real SLURM of one node, and the command line with it at hand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from subprocess_env import ENVIRONMENT

HERE = Path(__file__).resolve().parent
SANDBOX = HERE.parents[1] / "scripts" / "slurm_sandbox.sh"


@pytest.fixture(scope="session")
def cluster():
    """Starts the sandbox; its environment variable."""
    if os.geteuid() != 0 or not shutil.which("slurmctld"):
        pytest.skip("the sandbox needs root and SLURM's packages: make slurm-up installs them")
    folder = Path(tempfile.mkdtemp(prefix="unlearn-slurm-", dir="/var/tmp"))  # munge wants a path open to all
    environment = os.environ | {"MEM_MB": "6000", "CPUS": "2", "CONTROL_PORT": "27917", "NODE_PORT": "27918"}
    up = subprocess.run([SANDBOX, "up", folder], env=environment, capture_output=True, text=True, check=False)
    assert up.returncode == 0, up.stderr
    yield {"SLURM_CONF": str(folder / "slurm.conf")}
    subprocess.run([SANDBOX, "down", folder], env=environment, check=True, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def unlearn_there(cluster, tmp_path, monkeypatch):
    """Runs the command line with the cluster and the faulty method at hand; `more` are environment variables."""
    for name, value in cluster.items():
        monkeypatch.setenv(name, value)
    path = os.pathsep.join([str(HERE / "plugin"), ENVIRONMENT["PYTHONPATH"]])
    environment = ENVIRONMENT | cluster | {"PYTHONPATH": path, "UNLEARN_CACHE": str(tmp_path / "cache")}

    def call(*words, **more):
        own = [] if words[0] == "status" else ["--config-dir", str(HERE / "plugin" / "conf")]
        command = [sys.executable, "-m", "unlearn_cli", *words, *own]
        there = environment | more
        return subprocess.run(command, cwd=tmp_path, env=there, capture_output=True, text=True, check=False)

    return call
