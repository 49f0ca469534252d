"""Faults really injected: kill -9 in every stage, two runs at once, a full disk, damaged artifacts, interruptions."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from experiments import quick

from unlearn_cli import run
from unlearn_cli.cache import Cache
from unlearn_cli.stages import all_stages, base_stage
from unlearn_cli.study import Study

HERE = Path(__file__).parent

# Runs the quick experiment, and kills itself with SIGKILL inside the named builder, after its work is half on disk.
KILLED = """
import os, signal, sys
from pathlib import Path
from experiments import quick
from unlearn_cli import builders, run
name = sys.argv[2]
real = getattr(builders, name)
def killed(*arguments):
    real(*arguments)
    folder = arguments[-1]
    largest = max(folder.iterdir(), key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(builders, name, killed)
run(quick(Path(sys.argv[1])))
"""
PLAIN = """
import sys
from pathlib import Path
from experiments import quick
from unlearn_cli import run
result = run(quick(Path(sys.argv[1])))
print({name: stage["cached"] for name, stage in result.stages.items()})
sys.exit(result.exit_status)
"""


def start(script, *arguments, **options):
    command = [sys.executable, "-c", script, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=HERE, env=os.environ | {"PYTHONPATH": str(HERE.parent)}, **pipes, **options)


def bits(folder):
    """SHA-256 of every file of every artifact that must be the same bits, and metrics without measured times."""
    found = {}
    for stage in all_stages(Study.of(quick(folder))):
        artifact = Cache(folder / "cache").find(stage)
        assert artifact is not None, stage.name
        for name, entry in artifact.manifest["files"].items():
            if name.endswith((".safetensors", ".npy", ".csv")):
                found[stage.name, stage.label, name] = entry["sha256"]
            elif name.endswith(".npz"):
                with np.load(artifact.path / name) as arrays:
                    found |= {(stage.label, key): arrays[key].tobytes() for key in arrays.files}
            elif name == "metrics.json":
                metrics = json.loads((artifact.path / name).read_text())
                found["metrics"] = {key: entry for key, entry in metrics.items() if not key.startswith("cost/")}
    return found


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert run(quick(folder)).status == "ok"
    return bits(folder)


@pytest.mark.slow
@pytest.mark.parametrize("builder", ["build_base", "build_gold", "build_edit", "build_predictions", "build_evaluation"])
def test_kill_9_in_every_stage_then_the_same_bits(builder, uninterrupted, tmp_path):
    killed = start(KILLED, tmp_path, builder)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert list((tmp_path / "cache").rglob("*.partial")) and list((tmp_path / "cache").rglob("*.lock"))
    again = run(quick(tmp_path))
    assert again.status == "ok"
    assert bits(tmp_path) == uninterrupted
    assert not list((tmp_path / "cache").rglob("*.partial"))


def test_two_runs_at_once_train_the_base_once(uninterrupted, tmp_path):
    both = [start(PLAIN, tmp_path) for _ in range(2)]
    told = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    cached = [eval(text) for text in told]  # printed by our own script
    assert sorted(stages["train"] for stages in cached) == [False, True]
    assert bits(tmp_path) == uninterrupted


@pytest.mark.parametrize("damage", ["truncated", "edited"])
def test_a_damaged_artifact_is_reported_and_rebuilt(damage, uninterrupted, tmp_path, caplog):
    experiment = quick(tmp_path)
    run(experiment)
    weights = Cache(tmp_path / "cache").find(base_stage(Study.of(experiment))).path / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content[:-100] if damage == "truncated" else content)
    again = run(experiment)
    assert again.status == "ok" and not again.stages["train"]["cached"]
    assert "model.safetensors" in caplog.text and "damaged" in caplog.text
    assert bits(tmp_path) == uninterrupted


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_fails_clearly_and_leaves_no_half_artifact(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(disk)], check=True)
    try:
        experiment = quick(tmp_path, paths=quick(disk).paths)
        result = run(experiment, tmp_path / "run")
        assert (result.status, result.exit_status, result.error["stage"]) == ("failed", 1, "train")
        assert "paths.cache=<dir>" in result.error["message"] and str(disk) in result.error["message"]
        assert re.search("full|No space|free", result.error["message"].replace(str(disk), ""))
        assert not list(disk.rglob("done.json")) and not list(disk.rglob("*.lock"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
@pytest.mark.parametrize("size", ["8k", "100k"])
def test_a_run_folder_on_a_full_disk_is_told_in_a_sentence(size, tmp_path, caplog):
    """Full when the facts are written, and when checkpoints are copied."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], check=True)
    try:
        result = run(quick(tmp_path, paths=replace(quick(tmp_path).paths, link="copy")), disk / "run")
        assert (result.status, result.exit_status) == ("failed", 1)
        assert "No space left" in result.error["message"] and not any(entry.exc_info for entry in caplog.records)
        assert not list(disk.rglob("*.safetensors"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_says_how_to_go_on(number, tmp_path):
    folders = [f"paths.cache={tmp_path}/cache", f"paths.runs={tmp_path}/runs"]
    command = [sys.executable, "-m", "unlearn_cli", "world=tabular_tiny", "logger=none", *folders]
    process = subprocess.Popen(command, cwd=HERE.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "cache").rglob("train/*.partial")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "the same command goes on" in err and "Traceback" not in err
    (stored,) = (tmp_path / "runs").rglob("result.json")
    assert json.loads(stored.read_text())["status"] == "interrupted"
    assert not list((tmp_path / "cache").rglob("done.json"))
    assert not list((tmp_path / "cache" / "train").glob("*.lock"))


def test_a_worker_dies_with_its_parent(tmp_path):
    script = PLAIN.replace(
        "quick(Path(sys.argv[1]))", "quick(Path(sys.argv[1]), trainer=Trainer(accelerator='cpu', precision='fp32'))"
    )
    script = script.replace("import sys", "import sys\nfrom unlearn_cli.experiment import Trainer", 1)
    script = script.replace(
        "from unlearn_cli import run",
        "from unlearn_cli import builders, run\nbuilders.build_base = lambda *_: __import__('time').sleep(60)",
    )
    parent = start(script, tmp_path)
    lock = None
    deadline = time.monotonic() + 60
    while lock is None and time.monotonic() < deadline:
        lock = (
            next((tmp_path / "cache" / "gold").glob("*.lock"), None) if (tmp_path / "cache" / "gold").exists() else None
        )
        time.sleep(0.05)
    worker = json.loads(lock.read_text())["pid"] if lock else 0
    parent.kill()
    parent.communicate()
    while Path(f"/proc/{worker}/cmdline").exists() and b"worker" in Path(f"/proc/{worker}/cmdline").read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.05)
