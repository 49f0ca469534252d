"""Key space detection: refuse prompts whose key falls where the forget prompts' keys lie.

Li et al. 2025 (Effective Skill Unlearning through Intervention and Abstention, arXiv 2503.21730), section 4. A key is
what an MLP's second matrix reads at the prompt's last token. Per layer, with mean m and standard deviation s (n - 1) of
the forget keys, k is the least number for which all of them lie in [m - k s, m + k s] (in closed form the largest
|x - m| / s over samples and dimensions; the authors search it to 1e-5). A prompt with |x - m| <= gamma k s in every
dimension is refused; it is decided once, by the prompt alone.

Departures: the paper's box holds a skill; requested facts are none, and a box around all of them holds most other
facts of their relation, too. `boxes=fact` gives each fact a box around its phrasings, whose gamma may then exceed 1;
`request` is one box, as published. `false_positive_rate` chooses gamma: the largest that flags at most this share of
retain prompts. Standard deviations and half-widths are at least 1e-6. Published: gamma 0.06 to 0.08, one box.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from unlearn_cli.component import Count, Fraction, NonNegative, component
from unlearn_cli.methods.base import EditContext, EditData, EditReport, Need
from unlearn_cli.methods.guarding import GuardMethod

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from unlearn_cli.guards.base import Guard


@component
class KeySpaceDetection(GuardMethod):
    """Abstention by key space detection."""

    layers: Annotated[list[int], Field(min_length=1)] | None = None
    require: Literal["any", "all"] = "all"
    boxes: Literal["fact", "request"] = "fact"
    gamma: NonNegative | None = None
    false_positive_rate: Fraction | None = 0.0
    refusal_logits: Literal["onehot", "uniform"] = "onehot"
    contexts: Count | None = None

    @model_validator(mode="after")
    def _one_gamma(self) -> KeySpaceDetection:
        if (self.gamma is None) == (self.false_positive_rate is None):
            given = f"gamma = {self.gamma} and false_positive_rate = {self.false_positive_rate}"
            raise ValueError(f"{given}: give one and set the other to null".replace("None", "null"))
        return self

    @property
    def needs(self) -> frozenset[Need]:
        """The requested facts, and retain facts where gamma is chosen by them."""
        return frozenset({"forget"} if self.false_positive_rate is None else {"forget", "retain"})

    def guard(self, model: PreTrainedModel, data: EditData, context: EditContext) -> tuple[Guard, EditReport]:
        """Draw the boxes."""
        from unlearn_cli.methods.key_boxes import draw

        return draw(self, model, data, context)
