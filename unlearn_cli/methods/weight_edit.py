"""What methods that rewrite weights have in common: which weights they change, and which sentences they look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import model_validator

from unlearn_cli.component import component
from unlearn_cli.edits.base import CHANGING, EVERY
from unlearn_cli.errors import UnlearnError
from unlearn_cli.methods.base import Method
from unlearn_cli.methods.scope import parse_scope

if TYPE_CHECKING:
    from torch.nn import Parameter
    from transformers import PreTrainedModel

    from unlearn_cli.worlds.base import WorldData
    from unlearn_cli.worlds.language import Sentences


@component
class WeightEdit(Method):
    """Subclasses change the weights in `scope` without an optimiser; they know the old objects only."""

    VERSION: ClassVar[int] = 1
    takes: ClassVar[frozenset[str]] = EVERY

    scope: str = "blocks"

    @model_validator(mode="after")
    def _known_scope(self) -> WeightEdit:
        parse_scope(self.scope)
        return self

    def note(self, op: str) -> str | None:
        """They forget; they write no new object."""
        if op in CHANGING:
            return f"{type(self).__name__} forgets the old objects of a {op} edit; it is not shown the new ones"
        return None

    def weights(self, model: PreTrainedModel, matrices: bool = False) -> dict[str, Parameter]:
        """The parameters in scope by name, a tied one once; only the matrices among them if asked."""
        belongs = parse_scope(self.scope)
        found = {
            name: parameter
            for name, parameter in model.named_parameters()
            if (self.scope == "all" or belongs(name)) and (parameter.ndim == 2 or not matrices)
        }
        if not found:
            raise UnlearnError(f"method.scope: {self.scope} names no weight of this model that can be edited")
        return found


def stated(world: WorldData, rng: np.random.Generator, most: int | None = None) -> Sentences:
    """Every fact in one phrasing drawn from the trained ones; no more than `most` facts, drawn too."""
    facts = np.arange(len(world.facts))
    if most is not None and most < len(facts):
        facts = np.sort(rng.choice(facts, most, replace=False))
    return world.sentences(facts, rng.choice(world.language.asked, len(facts)))


def read_tokens(sentences: Sentences) -> int:
    """Tokens that a pass over the answers reads."""
    return int(sentences.answer_end.sum())


def require_finite(model: PreTrainedModel, advice: str) -> None:
    """UnlearnError with `advice` if an edit left weights that are no numbers."""
    if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
        raise UnlearnError(f"edit: weights are not finite; {advice}")
