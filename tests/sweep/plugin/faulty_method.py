"""A method for tests of sweeps: it ends its run in one of the ways in which runs end on a cluster."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, ClassVar, Literal

from unlearn_cli.component import component
from unlearn_cli.edits.base import EVERY
from unlearn_cli.methods.base import EditContext, EditData, EditReport, Method, Need

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@component
class Faulty(Method):
    """well: does nothing; kill: SIGKILL to itself; memory: takes ever more; error: raises; wait: takes its time."""

    VERSION: ClassVar[int] = 1
    takes: ClassVar[frozenset[str]] = EVERY
    end: Literal["well", "kill", "memory", "error", "wait"] = "well"

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset()

    def edit(self, model: PreTrainedModel, data: EditData, context: EditContext) -> EditReport:
        if self.end == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.end == "error":
            raise ZeroDivisionError("a bug of the method")
        if self.end == "wait":
            time.sleep(120)
        taken = []
        while self.end == "memory":
            taken.append(bytearray(os.urandom(1) * 50_000_000))
            time.sleep(0.05)
        return EditReport()
