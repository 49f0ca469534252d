"""GPT-NeoX shaped models, the architecture of Pythia (Biderman et al. 2023, arXiv 2304.01373), plain `transformers`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from pydantic import model_validator

from unlearn_cli.component import Count, Fraction, Positive, component
from unlearn_cli.models.base import Model

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@component
class GPTNeoX(Model):
    """Pre-LayerNorm decoder with rotary positions."""

    VERSION: ClassVar[int] = 1

    hidden_size: Count = 128
    layers: Count = 2
    heads: Count = 4
    mlp_size: Count = 512  # hidden units of an MLP
    rotary_share: Fraction = 0.25  # share of a head's dimensions that are rotated
    parallel_residual: bool = False  # true: attention and MLP read the same input, as in Pythia
    tied: bool = False  # one matrix for input and output embeddings
    init_std: Positive | None = None  # standard deviation of initial weights; null: 1/sqrt(hidden_size)
    max_positions: Count = 64  # longest row, tokens

    @model_validator(mode="after")
    def _heads_divide(self) -> GPTNeoX:
        if self.hidden_size % self.heads:
            raise ValueError(f"heads = {self.heads} does not divide hidden_size = {self.hidden_size}")
        if int(self.hidden_size // self.heads * self.rotary_share) < 2:
            raise ValueError(
                f"rotary_share = {self.rotary_share} rotates fewer than 2 dimensions of a head: no positions"
            )
        return self

    def build(self, vocab_size: int, max_length: int, seed: int) -> PreTrainedModel:
        """Initialise under a private random state; the caller's is left as it was."""
        import torch
        from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

        from unlearn_cli.worlds.vocabulary import END, PADDING

        config = GPTNeoXConfig(
            vocab_size=vocab_size,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=self.mlp_size,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": self.rotary_share},
            use_parallel_residual=self.parallel_residual,
            tie_word_embeddings=self.tied,
            initializer_range=self.init_std or 1 / math.sqrt(self.hidden_size),
            max_position_embeddings=max(self.max_positions, max_length),
            bos_token_id=END,
            eos_token_id=END,
            pad_token_id=PADDING,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return GPTNeoXForCausalLM(config)

    def skeleton(self, vocab_size: int, max_length: int) -> PreTrainedModel:
        """As `build` makes it."""
        import torch

        with torch.device("meta"):
            return self.build(vocab_size, max_length, 0)
