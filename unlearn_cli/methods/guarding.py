"""What methods have in common that leave the weights alone and put a guard before them."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from unlearn_cli.edits.base import CHANGING, EVERY
from unlearn_cli.methods.base import EditContext, EditData, EditReport, Method

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from unlearn_cli.guards.base import Guard


class GuardMethod(Method):
    """Subclasses make the guard; it is saved under `guard/` in the edited model's folder."""

    VERSION: ClassVar[int] = 1
    takes: ClassVar[frozenset[str]] = EVERY
    at_once: ClassVar[bool] = True

    def note(self, op: str) -> str | None:
        """The weights did not change, and a new object is not taught."""
        name = type(self).__name__
        said = f"{name} leaves the weights as they were: a guard answers (`unlearn_cli.guards.load`)"
        return f"{said}; it hides the old objects of a {op} edit and knows no new ones" if op in CHANGING else said

    @abstractmethod
    def guard(self, model: PreTrainedModel, data: EditData, context: EditContext) -> tuple[Guard, EditReport]:
        """Make the guard from what the method is shown, and say what that took; `model` stays as it is."""

    def edit(self, model: PreTrainedModel, data: EditData, context: EditContext) -> EditReport:
        """Make the guard and leave it beside the model, as `guards.load` would read it."""
        guard, report = self.guard(model, data, context)
        return replace(report, guard=guard.eval().requires_grad_(False))
