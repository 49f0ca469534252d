"""Prompt guard: a text before every prompt that asks not to answer; the weights stay.

Thaker et al. 2024 (Guardrail Baselines for Unlearning in LLMs, arXiv 2403.03329), "prompting", and in-context
unlearning (Pawelczyk et al. 2023, arXiv 2310.07579): an instruction, or demonstrations with other answers. Here it is
demonstrations in the world's own language: requested facts in trained phrasings, answered with the refusal.

A control. Models without in-context ability do not follow it, and none of the models trained here has any: they have
read one sentence at a time. What it changes is then what a longer row and later positions do to the answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unlearn_cli.component import Count, component
from unlearn_cli.methods.base import EditContext, EditData, EditReport, Need
from unlearn_cli.methods.guarding import GuardMethod
from unlearn_cli.streams import generator
from unlearn_cli.worlds.facts import REFUSAL

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedModel

    from unlearn_cli.guards.base import Guard
    from unlearn_cli.worlds.base import WorldData


@component
class PromptGuard(GuardMethod):
    """Demonstrations of refusal."""

    demonstrations: Count = 1

    @property
    def needs(self) -> frozenset[Need]:
        """The requested facts."""
        return frozenset({"forget"})

    def guard(self, model: PreTrainedModel, data: EditData, context: EditContext) -> tuple[Guard, EditReport]:
        """Write the demonstrations; UnlearnError if they and a sentence are longer than the model reads."""
        import torch

        from unlearn_cli.guards.prefix import Prefix, require_room

        assert data.forget is not None
        tokens = refusals(data.forget, self.demonstrations, generator(context.seed, "edit", "demonstrations"))
        require_room(model, len(tokens), data.forget.max_length)
        return Prefix(torch.tensor(tokens)).to(context.runtime.device), EditReport(notes={"prefix_tokens": len(tokens)})


def refusals(world: WorldData, most: int, rng: np.random.Generator) -> list[int]:
    """Sentences in a row, at most `most`, that refuse facts that are drawn.

    A token that both ends a sentence and begins the next is written once.
    """
    facts = rng.choice(len(world.facts), min(most, len(world.facts)), replace=False)
    templates = rng.choice(world.language.asked, len(facts))
    sentences = world.sentences(facts, templates, facts * 0 + REFUSAL)
    rows = [row[:n].tolist() for row, n in zip(sentences.input_ids, sentences.length, strict=True)]
    return [int(token) for row in rows for token in (row[:-1] if row[-1] == row[0] else row)]
