"""Small models of every architecture, one that knows its facts, and guards made by methods."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from unlearn_cli.guards import store
from unlearn_cli.machine import Numerics
from unlearn_cli.methods.base import EditContext, EditData
from unlearn_cli.methods.ft import FT
from unlearn_cli.models import checkpoint
from unlearn_cli.models.forward import answer_logits
from unlearn_cli.models.gpt_neox import GPTNeoX
from unlearn_cli.training.loop import Runtime
from unlearn_cli.worlds.tabular import Tabular

CPU = Numerics("cpu", 1, 1, "fp32")
WORLDS = {t: Tabular(subjects=40, relations=3, objects=6, holdout_subjects=2, object_tokens=t).build(0) for t in (1, 2)}
ARCHITECTURES = ["neox", "llama", "gpt2"]
FORGET, RETAIN = np.array([0, 7, 20]), np.arange(30, 110)


def network(kind, tokens=2):
    """Untrained."""
    world = WORLDS[tokens]
    size = world.vocabulary.size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "llama":
            shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
            return LlamaForCausalLM(LlamaConfig(vocab_size=size, initializer_range=0.2, **shape)).eval()
        if kind == "gpt2":
            config = GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=2, initializer_range=0.2)
            return GPT2LMHeadModel(config).eval()
    return GPTNeoX(hidden_size=32, heads=2, mlp_size=64).build(size, world.max_length, 0).eval()


@cache
def trained(tokens=2):
    """A model that knows the facts; nobody changes it."""
    world, model = WORLDS[tokens], network("neox", tokens)
    facts = world.only(np.arange(114))
    learn = FT(steps=200, lr=5e-3, scope="all", stop_loss=0.05, retain_loss="none")
    learn.edit(model, EditData(facts, facts.facts.object, None), EditContext(Runtime("edit", CPU), 0))
    return model.eval()


def guarded(method, model, tokens=2, facts=FORGET, target=None, seed=0, memory=None):
    """The guard and the report; the weights must be what they were."""
    world = WORLDS[tokens]
    data = EditData(world.only(facts), target, world.only(RETAIN), world.language)
    before = copy.deepcopy(model.state_dict())
    context = EditContext(Runtime("edit", CPU), seed, memory={} if memory is None else memory)
    report = method.edit(model, data, context)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    return report.guard, report


def asked(facts, tokens=2, objects=None):
    """Rows, the positions that are read, prompt ends and answers of facts in every trained template."""
    world = WORLDS[tokens]
    templates = world.language.asked
    each = np.repeat(facts, len(templates))
    objects = None if objects is None else np.repeat(objects, len(templates))
    sentences = world.sentences(each, np.tile(templates, len(facts)), objects)
    positions = torch.from_numpy(sentences.positions - 1)
    ids = torch.from_numpy(np.ascontiguousarray(sentences.through_answer))
    return ids, positions, positions[:, 0], torch.from_numpy(sentences.answers)


@torch.no_grad()
def logits_of(model, facts, guard=None, tokens=2, objects=None):
    """Logits [B, T, V] that the model, or its guard, gives to `asked`."""
    ids, positions, end, _ = asked(facts, tokens, objects)
    return answer_logits(model, ids, positions) if guard is None else guard.answer_logits(model, ids, positions, end)


def accuracy(model, facts, guard=None, tokens=2, objects=None):
    """Share of `asked` that is answered with the facts' objects, or others."""
    said = logits_of(model, facts, guard, tokens, objects).argmax(-1)
    return float((said == asked(facts, tokens, objects)[3]).all(-1).float().mean())


def through_disk(guard, model, folder, tokens=2):
    """The model with its guard, saved and loaded."""
    checkpoint.save(model, WORLDS[tokens].vocabulary, folder)
    store.save(guard, folder)
    return store.load(folder)
