"""Which prompts a guard acts on: an exact match of the requested subjects, or a linear probe of hidden states.

`subject` reads the prompt's tokens, so that no phrasing evades it and any other name for the subject does; with
`relation` the prompt must be about a requested fact, not just about its subject. `probe` is a logistic regression on
what block `layer` puts out at the prompt's last token, requested facts against retain facts in the trained phrasings.
Half of the retain subjects are not learnt from: their scores set the threshold, so that no more than `fpr` of their
prompts are flagged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from unlearn_cli.component import Fraction, Positive, component
from unlearn_cli.methods.base import EditContext, EditData, Need

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from unlearn_cli.methods.detecting import Detected


@component
class Detection:
    """`relation` is of kind subject; `layer`, `fpr` and `l2` are of kind probe."""

    kind: Literal["subject", "probe"] = "subject"
    relation: bool = True
    layer: int = 0
    fpr: Fraction = 0.05
    l2: Positive = 0.01

    @property
    def needs(self) -> frozenset[Need]:
        """The requested facts; a probe compares them with retain facts."""
        return frozenset({"forget", "retain"}) if self.kind == "probe" else frozenset({"forget"})

    def make(self, model: PreTrainedModel, data: EditData, context: EditContext) -> Detected:
        """The detector of the facts that the method is shown."""
        from unlearn_cli.methods.detecting import matching, probing

        assert data.forget is not None
        if self.kind == "subject":
            return matching(data.forget, self.relation)
        assert data.retain is not None
        return probing(self, model, data.forget, data.retain, context.seed)
