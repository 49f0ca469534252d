"""Neuron Adjust: move MLP neurons from where they are on forget texts to where they are on retain texts, reflected.

Li et al. 2025 (Effective Skill Unlearning through Intervention and Abstention, arXiv 2503.21730), section 3. Every
pre-activation is taken as normal on forget and on retain texts; the `percent` of all neurons with the largest
mu_f - mu_r are watched. Where N(x; f) >= N(x; r), x becomes mu_r - s_r (x - mu_f) / s_f with probability
N(x; f) / (N(x; f) + N(x; r)). With gated MLPs the pre-activation is the gate's.

The authors' code fills the standard deviation on forget texts from the mean and stores variances as standard
deviations; here both are standard deviations, at least 1e-6. Chance is a hash of the seed, the neuron and the tokens so
far: the same text is read alike in any batch. `positions=answer` takes the distributions where the answers are
predicted, in place of all tokens, most of which are in the phrasing and alike on both sides. Neurons are moved at every
token. Published: 0.5 percent. The paper unlearns skills; a fact shares its neurons with others of its relation, which
suffer as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from unlearn_cli.component import Count, component
from unlearn_cli.methods.base import EditContext, EditData, EditReport, Need
from unlearn_cli.methods.guarding import GuardMethod

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from unlearn_cli.guards.base import Guard


@component
class NeuronAdjust(GuardMethod):
    """Intervention on neurons."""

    percent: Annotated[float, Field(ge=0, le=100)] = 40.0
    deterministic: bool = False
    positions: Literal["answer", "all"] = "answer"
    contexts: Count | None = None

    @property
    def needs(self) -> frozenset[Need]:
        """Requested facts and retain facts, for the distributions."""
        return frozenset({"forget", "retain"})

    def guard(self, model: PreTrainedModel, data: EditData, context: EditContext) -> tuple[Guard, EditReport]:
        """Take the distributions, and choose the neurons."""
        from unlearn_cli.methods.neuron_statistics import choose

        return choose(self, model, data, context)
