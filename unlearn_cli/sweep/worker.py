"""A process that carries out one task after another: `serve` is its main loop, `Worker` the parent's end of it.

A run that takes its process with it, for want of memory or by a signal, costs itself and no other run.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from unlearn_cli.errors import Interrupted
from unlearn_cli.interrupts import interruptible

CONTEXT = get_context("spawn")  # torch and its threads do not survive a fork


@dataclass(frozen=True)
class Task:
    """Something to be done in a worker; picklable."""

    work: Callable[..., int]  # a function of a module, whose return value is an exit status
    arguments: tuple[Any, ...]
    console: Path  # what it prints goes here


@dataclass
class Worker:
    """The parent's end of one process, which is started when first used and again after it died."""

    process: BaseProcess | None = None
    link: Connection | None = None
    doing: Any = field(default=None)  # the parent's own name for the task

    def begin(self, name: Any, task: Task) -> None:
        """Hand over a task."""
        if self.process is None or not self.process.is_alive():
            self.link, theirs = CONTEXT.Pipe()
            self.process = CONTEXT.Process(target=serve, args=(theirs,), daemon=False)
            self.process.start()
            theirs.close()
        assert self.link is not None
        self.doing = name
        self.link.send(task)

    def ended(self) -> int:
        """Exit status of the task, called when the link has something or is closed; negative: killed by a signal."""
        assert self.link is not None
        assert self.process is not None
        try:
            status = int(self.link.recv())
        except (EOFError, ConnectionError):
            self.process.join()
            status = int(self.process.exitcode or 1)
            self.link.close()
            self.process = self.link = None
        self.doing = None
        return status

    def stop(self) -> None:
        """Interrupt what it does, which then writes down what happened to it; it ends without a further task."""
        if self.process is None or not self.process.is_alive():
            return
        if self.doing is not None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid or 0, signal.SIGINT)
        assert self.link is not None
        self.link.close()  # nobody listens any more: it ends when it looks for a task

    def join(self) -> None:
        """Wait until it has ended."""
        if self.process is not None:
            self.process.join()


def serve(link: Connection) -> None:
    """Carry out tasks until the parent closes the link; an interruption ends the process too."""
    os.setpgid(0, 0)  # Ctrl-C is for the parent, which hands it on once: a second one would cut short the writing
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by what a shell starts behind `nohup` or `&`
    while True:
        try:
            task: Task = link.recv()
            status = _carry_out(task)
            if status > 128:
                sys.exit(status)
            link.send(status)
        except (EOFError, KeyboardInterrupt, ConnectionError):
            return


def _carry_out(task: Task) -> int:
    task.console.parent.mkdir(parents=True, exist_ok=True)
    with task.console.open("ab", buffering=0) as console:
        sys.stdout.flush()
        os.dup2(console.fileno(), 1)
        os.dup2(console.fileno(), 2)
    try:
        with interruptible(signal.SIGINT):
            return task.work(*task.arguments)
    except Interrupted as interrupted:
        return interrupted.exit_status
    except KeyboardInterrupt:
        return Interrupted().exit_status
    except SystemExit as ended:  # whatever called it, the other tasks go on
        return ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
