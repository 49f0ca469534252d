"""Fixtures shared by the tests."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

# A shell has what it starts behind `nohup` or `&` ignore SIGINT, and so would the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Ended:
    """What one command line left behind."""

    status: int
    out: str
    err: str

    @property
    def problems(self) -> list[str]:
        """The lines of a refusal, its headline left out."""
        return [line.strip() for line in self.err.splitlines()[1:]]


@pytest.fixture
def unlearn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Iterator[Callable]:
    """`unlearn(*words)` runs the command line in an empty folder, on a pipeline that does nothing."""
    import fake_pipeline

    from unlearn_cli.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "unlearn_cli.pipeline", fake_pipeline)
    monkeypatch.setattr("unlearn_cli.machine.cores", lambda: 1)  # sweeps in this process, which has the fake
    for name in ("UNLEARN_CACHE", "UNLEARN_RUNS", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "disabled")  # a sweep has a run of its own there, which takes seconds
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def run(*words: str) -> Ended:
        capsys.readouterr()
        status = main(list(words))
        out, err = capsys.readouterr()
        return Ended(status, out, err)

    yield run
    root.handlers[:] = handlers  # Hydra puts its own in their place
    root.setLevel(level)
