"""Retrain: the gold model as a method, exact unlearning and the reference of every approximate one.

`fresh=true` takes a retrained model that is not among the gold ones, so that its distance to gold shows how far two
honest retrainings lie apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from unlearn_cli.component import component
from unlearn_cli.edits.base import EVERY
from unlearn_cli.methods.base import EditContext, EditData, EditReport, Method, Need

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@component
class Retrain(Method):
    """Copy a gold model's weights."""

    VERSION: ClassVar[int] = 1
    takes: ClassVar[frozenset[str]] = EVERY

    fresh: bool = False

    @property
    def needs(self) -> frozenset[Need]:
        """A gold model, or one more from a seed of its own."""
        return frozenset({"gold_fresh" if self.fresh else "gold"})

    def edit(self, model: PreTrainedModel, data: EditData, context: EditContext) -> EditReport:
        """Load the retrained weights into `model`."""
        from unlearn_cli.models.checkpoint import load

        retrained = load(data.gold[0])
        model.load_state_dict(retrained.state_dict())
        return EditReport(trainable_parameters=sum(p.numel() for p in model.parameters()))
