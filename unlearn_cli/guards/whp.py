"""Takes off a model's logits what another one, trained more on what is to be forgotten, raises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from torch import Tensor

from unlearn_cli.guards import network
from unlearn_cli.guards.base import Guard
from unlearn_cli.methods.whp import generic
from unlearn_cli.models.forward import answer_logits

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Space = Literal["logits", "logps"]


class GenericPredictions(Guard):
    """v_base - alpha relu(v_reinforced - v_base), for every prompt alike: no row passes, `alpha` 0 is the base."""

    def __init__(self, reinforced: PreTrainedModel, alpha: float, space: Space) -> None:
        super().__init__()
        self.reinforced = reinforced
        self.alpha, self.space = alpha, space

    @property
    def config(self) -> dict[str, Any]:
        """The reinforced model's shape, and how much is taken off."""
        return {"reinforced": network.described(self.reinforced), "alpha": self.alpha, "space": self.space}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """With a reinforced model of the right shape."""
        return cls(**config | {"reinforced": network.made(config["reinforced"])})

    def answer_logits(self, model: PreTrainedModel, input_ids: Tensor, positions: Tensor, prompt_end: Tensor) -> Tensor:
        """Ask both."""
        base = answer_logits(model, input_ids, positions)
        reinforced = answer_logits(self.reinforced, input_ids, positions)
        return served(base, reinforced, self.alpha, self.space)


def served(base: Tensor, reinforced: Tensor, alpha: float, space: Space) -> Tensor:
    """Logits [..., V]; with `logps` both models' are compared at one normaliser, the base's."""
    if space == "logps":
        reinforced = reinforced - reinforced.logsumexp(-1, keepdim=True) + base.logsumexp(-1, keepdim=True)
    return generic(base, reinforced, alpha)
