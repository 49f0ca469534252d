"""Input filter: a prompt that a detector flags is answered with the refusal.

Thaker et al. 2024 (Guardrail Baselines for Unlearning in LLMs, arXiv 2403.03329): the detector there is a prompted or
fine-tuned LLM, or a classifier. Here it is an exact match or a linear probe (`detection.py`). The weights stay: an
upper baseline that shows what metrics of behaviour cannot tell from forgetting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from unlearn_cli.component import component
from unlearn_cli.methods.base import EditContext, EditData, EditReport, Need
from unlearn_cli.methods.detection import Detection
from unlearn_cli.methods.guarding import GuardMethod

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from unlearn_cli.guards.base import Guard


@component
class InputFilter(GuardMethod):
    """Refuse what is asked about the requested facts."""

    detector: Detection = Field(default_factory=Detection)
    refusal_logits: Literal["onehot", "uniform"] = "onehot"

    @property
    def needs(self) -> frozenset[Need]:
        """What its detector needs."""
        return self.detector.needs

    def note(self, op: str) -> str | None:
        """A refuse edit gets what it asks for."""
        return super().note("forget" if op == "refuse" and self.refusal_logits == "onehot" else op)

    def guard(self, model: PreTrainedModel, data: EditData, context: EditContext) -> tuple[Guard, EditReport]:
        """Make the detector."""
        import torch

        from unlearn_cli.guards import filters

        assert data.forget is not None
        found = self.detector.make(model, data, context)
        said = torch.tensor([*data.forget.refusal_tokens, *data.forget.vocabulary.closing])
        made = filters.InputFilter(found.detector, said, self.refusal_logits)
        return made.to(context.runtime.device), EditReport(forward_tokens=found.forward_tokens, notes=found.notes)
