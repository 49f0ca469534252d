"""A method for tests of sweeps: it ends its run in one of the ways in which runs end on a cluster."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from unlearn_cli.component import component
from unlearn_cli.edits.base import EVERY
from unlearn_cli.errors import UnlearnError
from unlearn_cli.methods.base import EditContext, EditData, EditReport, Method, Need

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FAULTS = "UNLEARN_FAULTS"  # a folder with a file for each fault that is still to happen, named by `end`


@component
class Faulty(Method):
    """Does nothing to the model, and ends as it is told.

    well; kill: SIGKILL to itself; memory: takes ever more; error: raises; setting: tells that a setting is no good;
    wait: takes its time; asked: the first fault that is left in a folder, which no other run then takes.
    """

    VERSION: ClassVar[int] = 1
    takes: ClassVar[frozenset[str]] = EVERY
    end: Literal["well", "kill", "memory", "error", "setting", "wait", "asked"] = "well"

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset()

    def edit(self, model: PreTrainedModel, data: EditData, context: EditContext) -> EditReport:
        end = _taken() if self.end == "asked" else self.end
        if end == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if end == "error":
            raise ZeroDivisionError("a bug of the method")
        if end == "setting":
            raise UnlearnError("method.end: 'setting' given; this model has no such end")
        if end.startswith("wait"):
            time.sleep(120)
        taken = []
        while end == "memory":
            taken.append(bytearray(os.urandom(1) * 50_000_000))
            time.sleep(0.05)
        return EditReport()


def _taken() -> str:
    """A fault that is left, with a note of the process that has it; well if there is none."""
    folder = os.environ.get(FAULTS)
    for path in sorted(Path(folder).glob("*.left")) if folder else []:
        try:
            path.rename(path.with_suffix(".taken"))
        except FileNotFoundError:
            continue  # another run was faster
        path.with_suffix(".pid").write_text(f"{os.getpid()} {os.environ['SLURM_ARRAY_TASK_ID']}")
        return path.stem
    return "well"
