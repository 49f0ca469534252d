"""What ECO's search reads: how probable the requested facts' old objects are after corrupted prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from unlearn_cli.methods.gradients import chunks
from unlearn_cli.methods.loss import AnswerBatch
from unlearn_cli.training.fit import answer_mask

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from unlearn_cli.guards.eco import Corrupt
    from unlearn_cli.worlds.language import Sentences


class Reading:
    """m of a guard at its present strength."""

    def __init__(self, guard: Corrupt, model: PreTrainedModel, sentences: Sentences) -> None:
        self.guard, self.model, self.sentences = guard, model, sentences
        self.passes = 0

    @torch.no_grad()
    def probability(self) -> float:
        """Mean probability of the whole answers, every prompt corrupted."""
        self.passes += 1
        device = next(self.model.parameters()).device
        every = []
        for part in chunks(self.sentences):
            ids, answers = (torch.from_numpy(rows).to(device) for rows in (part.through_answer, part.answers))
            read = torch.from_numpy(part.positions - 1).to(device)
            logits = self.guard.corrupted(self.model, ids, read, read[:, 0])
            every.append(AnswerBatch(logits, answers, mask=answer_mask(part, device)).sequence_logps.exp())
        return float(torch.cat(every).double().mean())


def root_mean_square(model: PreTrainedModel) -> float:
    """Of all numbers of the input embeddings."""
    weight: Any = model.get_input_embeddings().weight
    return float(weight.detach().double().square().mean().sqrt())
