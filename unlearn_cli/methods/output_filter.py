"""Output filter: what the model would answer is read, and a requested fact's old object is not said: the refusal is.

Thaker et al. 2024 (Guardrail Baselines for Unlearning in LLMs, arXiv 2403.03329): there the check is another LLM or a
classifier and acts on one sampled answer. Here it knows the facts, and the law of the answers is exact: the probability
of the forbidden object moves to the refusal, that of every other answer stays (`guards/filters.py`). So the second best
object, which a plain refusal hides, can be read off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unlearn_cli.component import component
from unlearn_cli.methods.base import EditContext, EditData, EditReport, Need
from unlearn_cli.methods.guarding import GuardMethod

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from unlearn_cli.guards.base import Guard
    from unlearn_cli.worlds.vocabulary import Ids


@component
class OutputFilter(GuardMethod):
    """Refuse to give the old object where a requested fact is asked for."""

    @property
    def needs(self) -> frozenset[Need]:
        """The requested facts."""
        return frozenset({"forget"})

    def note(self, op: str) -> str | None:
        """A refuse edit gets what it asks for."""
        return super().note("forget" if op == "refuse" else op)

    def guard(self, model: PreTrainedModel, data: EditData, context: EditContext) -> tuple[Guard, EditReport]:
        """List the answers that are not to be given."""
        import torch

        from unlearn_cli.guards import filters
        from unlearn_cli.guards.detect import Match
        from unlearn_cli.methods.detecting import matching

        forget = data.forget
        assert forget is not None
        match = matching(forget, relation=True).detector
        assert isinstance(match, Match)
        relation, objects = forget.facts.relation, forget.facts.object
        answers = _ended(forget.language.answers(relation, objects), forget.language.answer_lengths(relation, objects))
        refusal = _ended(forget.refusal, forget.refusal_length)[0]
        made = filters.OutputFilter(match, torch.from_numpy(answers), torch.from_numpy(refusal))
        return made.to(context.runtime.device), EditReport()


def _ended(tokens: Ids, lengths: Ids | None) -> Ids:
    """Answers [n, T] with NOTHING behind the end of shorter ones."""
    import numpy as np

    from unlearn_cli.guards.filters import NOTHING

    return tokens if lengths is None else np.where(np.arange(tokens.shape[1]) < lengths[:, None], tokens, NOTHING)
