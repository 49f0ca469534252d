"""Let several processes, one for each device, make a stage together; this one watches over them.

The ranks (rank.py) carry out the same builder in lock-step, the first one in the artifact's folder, the others in
folders that are thrown away. Whatever ends one ends all, and one error says why. On one node they are started here; on
several nodes by `srun`, inside the job that holds the nodes. Order and news travel as lines through their pipes.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from unlearn_cli.errors import Interrupted, UnlearnError
from unlearn_cli.machine import Numerics
from unlearn_cli.training.messages import Address, Done, Failed, Log, Order, Stop, Stopped, decode, encode

SETTLE_SECONDS = 3.0  # after a rank failed, for the others to say what they know
SAVE_SECONDS = 40.0  # for the ranks to end their step and save, when the run is interrupted
QUIET = {"TORCH_CPP_LOG_LEVEL": "ERROR"}  # a rank whose peer is gone complains at length


def carry_out(order: Order, numerics: Numerics) -> dict[str, Any]:
    """Return what the builder returns; raises what a rank raised, or an UnlearnError if one was killed."""
    team = _Team(order, numerics)
    try:
        return team.watch()
    except (Interrupted, KeyboardInterrupt):
        team.let_save()
        raise
    finally:
        team.end()


@dataclass
class _Team:
    """The processes of a stage."""

    order: Order
    numerics: Numerics
    processes: list[subprocess.Popen[bytes]] = field(init=False)
    news: queue.Queue[tuple[int, Any]] = field(default_factory=queue.Queue)  # number of the process, its message
    failures: list[Failed] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.processes = [_start(command) for command in commands(self.numerics)]
        for number, process in enumerate(self.processes):
            threading.Thread(target=self._listen, args=(number, process), daemon=True).start()
        self._tell(self.order)

    def watch(self) -> dict[str, Any]:
        """Pass on news until the first rank is done, or one has failed."""
        while not self.failures:
            _, message = self.news.get()
            if isinstance(message, Done):
                return message.extra
            self._take(message)
        end = time.monotonic() + SETTLE_SECONDS
        with suppress(queue.Empty):
            while (left := end - time.monotonic()) > 0 and len(self.failures) < len(self.processes):
                self._take(self.news.get(timeout=left)[1])
        raise cause(self.failures, self.order.stage, self.numerics.ranks)

    def let_save(self) -> None:
        """Let the first rank, and with it all, stop behind its step and save."""
        self._tell(Stop())
        end = time.monotonic() + SAVE_SECONDS
        with suppress(queue.Empty):
            while (left := end - time.monotonic()) > 0:
                _, message = self.news.get(timeout=left)
                if isinstance(message, Done | Failed | Stopped):
                    return
                self._take(message)

    def end(self) -> None:
        """Leave none behind."""
        for process in self.processes:
            with suppress(OSError):
                process.stdin.close()  # type: ignore[union-attr]
        for process in self.processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(2.0)
            process.kill()
            process.wait()

    def _take(self, message: Any) -> None:
        if isinstance(message, Log):
            logging.getLogger(message.name).log(message.level, "%s", message.text)
        elif isinstance(message, Address):
            self._tell(message)
        elif isinstance(message, Failed):
            self.failures.append(message)

    def _tell(self, message: Any) -> None:
        for process in self.processes:
            with suppress(OSError):  # one that has ended is noticed by its silence
                process.stdin.write(encode(message))  # type: ignore[union-attr]
                process.stdin.flush()  # type: ignore[union-attr]

    def _listen(self, number: int, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if (message := decode(line)) is not None:
                self.news.put((number, message))
        self.news.put((number, Failed(number, None, _ending(process.wait(), len(self.processes) > 1))))


def commands(numerics: Numerics) -> list[list[str]]:
    """How the ranks are started: by this process, or by SLURM on the nodes of its job."""
    rank = [sys.executable, "-m", "unlearn_cli.training.rank"]
    if numerics.nodes == 1:
        return [[*rank, str(number)] for number in range(numerics.devices)]
    if "SLURM_JOB_ID" not in os.environ:
        raise UnlearnError(
            f"trainer.num_nodes={numerics.nodes}: nodes are those of a SLURM job, and this is none;"
            " slurm=cluster with slurm.nodes makes one"
        )
    spread = [f"--nodes={numerics.nodes}", f"--ntasks={numerics.ranks}", f"--ntasks-per-node={numerics.devices}"]
    return [["srun", *spread, "--overlap", "--overcommit", "--kill-on-bad-exit=1", *rank]]


def cause(failures: Sequence[Failed], stage: str, ranks: int) -> Exception:
    """What the rest follows from: a killed rank before a user's error, any other error, a lost connection."""

    def order(failure: Failed) -> int:
        if failure.error is None:
            return 0 if failure.killed else 4
        return 1 if isinstance(failure.error, UnlearnError) else 3 if failure.lost_peer else 2

    first = min(failures, key=order)
    if isinstance(first.error, UnlearnError):
        return first.error
    if first.error is not None and not first.lost_peer:
        logging.getLogger(__name__).error("rank %d:\n%s", first.rank, first.text)
        return first.error
    return UnlearnError(f"{stage}: rank {first.rank} of {ranks} {first.text}; the others were stopped")


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    """In a session of its own, so that Ctrl-C reaches this process alone."""
    environment = os.environ | QUIET | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True
        )
    except FileNotFoundError:
        raise UnlearnError(f"{command[0]} was not found, which starts the ranks on several nodes") from None


def _ending(status: int, one_rank: bool) -> str:
    """What became of a process, or of all those that srun started."""
    if status >= 0:
        return f"ended with status {status}" if one_rank else f"or another ended srun with status {status}"
    name = signal.Signals(-status).name
    return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
