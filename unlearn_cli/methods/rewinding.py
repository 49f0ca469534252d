"""The models of an edit's path that it may go back to: the part of rewind.py that needs torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from unlearn_cli.methods.gradients import chunks
from unlearn_cli.methods.rewind import Rewind
from unlearn_cli.methods.weight_edit import read_tokens
from unlearn_cli.training.fit import answered
from unlearn_cli.worlds.base import WorldData


class Path:
    """Of the models shown so far the one that is nearest to what is wanted; of equal ones the last."""

    def __init__(self, rewind: Rewind, forget: WorldData) -> None:
        self.rewind = rewind
        n, asked = len(forget.facts), forget.language.asked
        self.sentences = forget.sentences(np.repeat(np.arange(n), len(asked)), np.tile(asked, n))
        self.tokens = 0  # read in looking
        self.accuracy, self.step = np.inf, 0
        self._kept: dict[str, Tensor] = {}

    @torch.no_grad()
    def look(self, model: torch.nn.Module, step: int) -> None:
        """Ask the model after `step` steps all requested facts, and keep it if it is the nearest one."""
        device, right = next(model.parameters()).device, 0
        for part in chunks(self.sentences):
            right += int(answered(model, part, device).sum())
        self.tokens += read_tokens(self.sentences)
        accuracy = right / len(self.sentences.length)
        if abs(accuracy - self.rewind.accuracy) <= abs(self.accuracy - self.rewind.accuracy):
            self.accuracy, self.step = accuracy, step
            self._kept = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def go_back(self, model: torch.nn.Module) -> Mapping[str, float]:
        """Make `model` the one that was kept, and say which it is."""
        for name, parameter in model.named_parameters():
            if name in self._kept:
                parameter.copy_(self._kept[name])
        return {"kept_step": self.step, "kept_accuracy": self.accuracy, "wanted_accuracy": self.rewind.accuracy}
