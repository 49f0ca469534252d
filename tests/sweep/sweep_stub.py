"""What the processes of a sweep do in tests: end as their overrides say, and leave a mark."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from fake_result import fake_result


def run_cell(overrides, flags, conf, folder):
    """`end=ok|fail|kill|exit|raise|wait`; a line of `log` beside the folder says when it began."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "log").open("a") as log:
        log.write(f"run {folder.name}\n")
    end = next((word.partition("=")[2] for word in overrides if word.startswith("end=")), "ok")
    print(f"this run is to {end}", flush=True)
    if end == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if end == "exit":
        sys.exit(3)
    if end == "raise":
        raise ZeroDivisionError("a bug of ours")
    if end == "wait":
        time.sleep(60)
    result = replace(fake_result(), run_dir=folder)
    if end == "fail":
        result.stage = "edit"
        result.fail(ValueError("no luck"))
    result.write(folder / "result.json")
    return result.exit_status


def make_shared(experiment, stage, member):
    """`experiment` is a folder and whether it goes well."""
    folder, well = experiment
    with (Path(folder) / "log").open("a") as log:
        log.write(f"stage {stage} {member}\n")
    if not well:
        print("recall is 0.3", file=sys.stderr)
    return 0 if well else 1


def log_of(folder):
    """The marks, in order."""
    return (Path(folder) / "log").read_text().splitlines()


def results(folder):
    """Status and error of every run that left a result."""
    found = {path.parent.name: json.loads(path.read_text()) for path in sorted(Path(folder).glob("*/result.json"))}
    return {name: (result["status"], (result["error"] or {}).get("message")) for name, result in found.items()}
