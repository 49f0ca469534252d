"""One rank of a stage that several processes make together: `python -m unlearn_cli.training.rank [NUMBER]`.

It is told what to do on standard input, which stays open: the process ends when that closes. Under `srun` the number is
SLURM's. Standard output is for messages alone (messages.py); whatever else is printed goes to standard error.
"""

from __future__ import annotations

import logging
import os
import queue
import shutil
import signal
import socket
import sys
import tempfile
import threading
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any

from unlearn_cli.cache.manifest import peak_resident_bytes
from unlearn_cli.errors import EXIT_OK, Interrupted
from unlearn_cli.machine import Numerics
from unlearn_cli.training.messages import Address, Done, Failed, Log, Order, Stop, Stopped, decode, encode
from unlearn_cli.training.ranks import Crew

CONNECT_SECONDS = 300.0  # for all ranks to be there; a large world takes a while to build


class _Line:
    """The pipes to the process that watches over the ranks."""

    def __init__(self, rank: int) -> None:
        self.rank, self.inbox = rank, queue.Queue[Any]()
        self.out = os.fdopen(os.dup(1), "wb", buffering=0)
        os.dup2(2, 1)
        self.stepping, self.leaving = threading.Event(), threading.Event()
        self.scratch: str | None = None
        threading.Thread(target=self._listen, daemon=True).start()

    def say(self, message: Any) -> None:
        """One line, in one write."""
        self.out.write(encode(message))

    def _listen(self) -> None:
        rest = b""
        while data := os.read(0, 65536):  # not through sys.stdin, whose lock would be held when the interpreter ends
            *lines, rest = (rest + data).split(b"\n")
            for message in filter(None, map(decode, lines)):
                if not isinstance(message, Stop):
                    self.inbox.put(message)
                elif self.stepping.is_set():
                    self.leaving.set()
                elif self.rank == 0:
                    self.say(Stopped())
        self.end()

    def end(self) -> None:
        """Leave nothing behind, whatever the other threads are at."""
        if self.scratch:
            shutil.rmtree(self.scratch, ignore_errors=True)
        os._exit(EXIT_OK)  # whoever closed the line knows why; srun would tell of anything else


class _Forward(logging.Handler):
    """Log lines of the first rank, told where the run's log is."""

    def __init__(self, line: _Line) -> None:
        super().__init__(logging.INFO)
        self.line = line

    def emit(self, record: logging.LogRecord) -> None:
        self.line.say(Log(record.name, record.levelno, record.getMessage()))


def main() -> None:
    """Carry out the order and say what came of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that watches is told, and tells
    rank = int(sys.argv[1] if len(sys.argv) > 1 else os.environ["SLURM_PROCID"])
    line = _Line(rank)
    try:
        extra = _make(line, line.inbox.get())
    except Interrupted:
        line.say(Stopped())
    except Exception as error:
        line.say(_failed(rank, error))
    else:
        if rank == 0:
            line.say(Done({"peak_memory_bytes": peak_resident_bytes()} | extra))
    threading.Event().wait()  # until the watching process closes the line: the others may need this one to end well


def _make(line: _Line, order: Order) -> dict[str, Any]:
    import torch

    from unlearn_cli import builders
    from unlearn_cli.study import Study

    study = Study.of(order.experiment)
    torch.set_num_threads(study.numerics.threads)
    if line.rank == 0:
        logging.basicConfig(level=logging.INFO, handlers=[_Forward(line)])
    crew = Crew(line.rank, study.numerics.ranks, line.stepping, line.leaving)
    _connect(line, crew, study.numerics)
    folder = Path(order.folder) if line.rank == 0 else _scratch(line)
    watch = builders.Watch(order.progress and line.rank == 0, crew=crew, folder=Path(order.folder))
    build = getattr(builders, order.builder).__wrapped__
    made: dict[str, Any] = build(study, *order.arguments, watch, folder)
    return made


def _scratch(line: _Line) -> Path:
    """A folder for what this rank makes like the first one, and nobody needs."""
    line.scratch = tempfile.mkdtemp(prefix="unlearn-rank-")
    return Path(line.scratch)


def _connect(line: _Line, crew: Crew, numerics: Numerics) -> None:
    """Join the ranks: the first one takes a free port, and the others are told which."""
    import torch
    from torch import distributed
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    if numerics.accelerator == "cuda":
        torch.cuda.set_device(crew.rank % numerics.devices)
    backend, wait = ("nccl" if numerics.accelerator == "cuda" else "gloo"), timedelta(seconds=CONNECT_SECONDS)
    if crew.rank == 0:
        host = "127.0.0.1" if numerics.nodes == 1 else socket.gethostname()
        store = TCPStore(host, 0, crew.size, is_master=True, timeout=wait, wait_for_workers=False)
        line.say(Address(host, store.port))
        line.inbox.get()
    else:
        found: Address = line.inbox.get()
        store = TCPStore(found.host, found.port, crew.size, is_master=False, timeout=wait)
    distributed.init_process_group(backend, store=store, rank=crew.rank, world_size=crew.size)


def _failed(rank: int, error: Exception) -> Failed:
    """The error as it can be told to another process."""
    text = "".join(traceback.format_exception(error)).strip()
    message = Failed(rank, error, text)
    try:
        decode(encode(message).strip())
    except Exception:  # of a kind that pickle cannot make again
        return Failed(rank, RuntimeError(f"{type(error).__name__}: {error}"), text)
    return message


if __name__ == "__main__":
    main()
