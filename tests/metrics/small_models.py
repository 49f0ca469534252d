"""Small untrained models of every shape that is known."""

from __future__ import annotations

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

SHAPES = ("neox", "llama", "gpt2")


def neox(study, seed=0):
    """The model of the study's experiment, before training."""
    return study.experiment.model.build(study.world.vocabulary.size, study.world.max_length, seed).eval()


def shaped(kind, study, layers=2):
    """A model for the study's vocabulary; GPT-2's output layer is tied to its embeddings."""
    size = study.world.vocabulary.size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        if kind == "neox":
            return neox(study)
        if kind == "llama":
            sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": layers, "num_attention_heads": 2}
            return LlamaForCausalLM(LlamaConfig(vocab_size=size, **sizes)).eval()
        return GPT2LMHeadModel(GPT2Config(vocab_size=size, n_embd=32, n_layer=layers, n_head=2)).eval()
