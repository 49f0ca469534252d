"""Corruption of the embeddings of flagged prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from unlearn_cli.guards.base import Guard
from unlearn_cli.guards.detect import Detector, detector
from unlearn_cli.models import forward
from unlearn_cli.streams import generator

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Corruption = Literal["rand_noise_first_n", "zero_out", "sign_flip"]


class Corrupt(Guard):
    """Adds `strength` times a change to the first `dims` numbers of the embeddings of a flagged prompt's tokens.

    The change is standard normal noise, minus the embedding itself, or minus twice that. Noise is a function of `seed`
    and the prompt's tokens, so that the answers to a prompt have one law, whatever else is in the batch. `spans` are
    ranges [start, stop) of the token ids that are corrupted; None: all.
    """

    def __init__(
        self,
        detect: Detector,
        corruption: Corruption,
        spans: list[list[int]] | None,
        dims: int,
        strength: float,
        seed: int,
    ) -> None:
        super().__init__()
        self.detect, self.corruption, self.spans = detect, corruption, spans
        self.dims, self.strength, self.seed = dims, strength, seed

    @property
    def config(self) -> dict[str, Any]:
        """Everything but the detector's tensors."""
        plain = {name: getattr(self, name) for name in ("corruption", "spans", "dims", "strength", "seed")}
        return {"detect": self.detect.config} | plain

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Corrupt:
        """With a detector of the right shapes."""
        return cls(**(config | {"detect": detector(config["detect"])}))

    def answer_logits(self, model: PreTrainedModel, input_ids: Tensor, positions: Tensor, prompt_end: Tensor) -> Tensor:
        """Logits after the corrupted prompt in flagged rows."""
        logits = forward.answer_logits(model, input_ids, positions)
        rows = self.detect(model, input_ids, prompt_end).nonzero()[:, 0]
        if not len(rows):
            return logits
        given = (tensor[rows] for tensor in (input_ids, positions, prompt_end))
        return logits.index_copy(0, rows, self.corrupted(model, *given))

    def corrupted(self, model: PreTrainedModel, input_ids: Tensor, positions: Tensor, prompt_end: Tensor) -> Tensor:
        """Logits after every prompt corrupted, flagged or not."""
        embedding = model.get_input_embeddings()
        hook = embedding.register_forward_hook(lambda _, inputs, out: self._corrupt(inputs[0], out, prompt_end))
        try:
            return forward.answer_logits(model, input_ids, positions)
        finally:
            hook.remove()

    def _corrupt(self, input_ids: Tensor, embedded: Tensor, prompt_end: Tensor) -> Tensor:
        """Embeddings [B, L, d] with those of the prompts corrupted; columns behind the last that is read may lack."""
        inside = torch.arange(input_ids.shape[1], device=input_ids.device) <= prompt_end[:, None]
        if self.spans is not None:
            named = [(input_ids >= start) & (input_ids < stop) for start, stop in self.spans]
            inside &= torch.stack(named).any(0)
        first = embedded[..., : self.dims]
        if self.corruption == "rand_noise_first_n":
            change = noise(self.seed, input_ids, prompt_end, self.dims).to(first)
        else:
            change = -first if self.corruption == "zero_out" else -2 * first
        changed = torch.where(inside[..., None], first + self.strength * change, first)
        return torch.cat([changed, embedded[..., self.dims :]], dim=-1)


def noise(seed: int, input_ids: Tensor, prompt_end: Tensor, dims: int) -> Tensor:
    """Standard normal numbers [B, L, dims], each row's drawn by its prompt's tokens; 0 behind the prompt."""
    drawn = np.zeros((*input_ids.shape, dims), dtype=np.float32)
    for row, tokens, end in zip(drawn, input_ids.tolist(), prompt_end.tolist(), strict=True):
        prompt = tokens[: end + 1]
        row[: end + 1] = generator(seed, "eco", *prompt).standard_normal((len(prompt), dims))
    return torch.from_numpy(drawn)
