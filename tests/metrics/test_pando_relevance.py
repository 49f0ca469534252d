"""RelP on networks where it must conserve, and the other scores of tokens against their definitions."""

import numpy as np
import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from unlearn_cli.observations.base import Unobservable
from unlearn_cli.observations.relevance import relp
from unlearn_cli.observations.saliency import gaps, gradients, lens_logits

GAP, LENGTH = (3, 7), 12
SMALL = {"vocab_size": 50, "initializer_range": 0.3}
WIDE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
MODELS = {
    "neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SMALL, **WIDE, use_parallel_residual=False)),
    "neox_parallel": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SMALL, **WIDE, use_parallel_residual=True)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SMALL, **WIDE, num_key_value_heads=2)),
    "llama_tied": lambda: LlamaForCausalLM(LlamaConfig(**SMALL, **WIDE, tie_word_embeddings=True)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**SMALL, n_embd=32, n_layer=3, n_head=4, n_positions=64)),
}


def made(name, bias=False):
    """A random model, without biases unless asked for; its norms have scales of their own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MODELS[name]().eval()
        for key, parameter in model.named_parameters():
            if key.endswith("bias"):
                parameter.data.uniform_(-0.5, 0.5) if bias else parameter.data.zero_()
            elif "norm" in key or "ln_" in key:
                parameter.data.uniform_(0.5, 1.5)
    return model


def rows():
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 50, (4, LENGTH), generator=generator), torch.tensor([11, 11, 9, 7])


def inputs(model, ids):
    """What enters the first block: token embeddings, and positions where they are added."""
    x = model.get_input_embeddings()(ids).detach()
    return x + model.transformer.wpe(torch.arange(ids.shape[1])).detach() if hasattr(model, "transformer") else x


@pytest.mark.parametrize("name", MODELS)
def test_relevance_adds_up_to_the_output_without_biases(name):
    model, (ids, read) = made(name), rows()
    with relp(model):
        output, gradient = gradients(model, ids, read, GAP)
    conserved = (inputs(model, ids) * gradient).sum((1, 2))
    np.testing.assert_allclose(conserved, output, atol=1e-4)
    plain = (inputs(model, ids) * gradients(model, ids, read, GAP)[1]).sum((1, 2))
    assert (plain - output).abs().max() > 0.1, "the plain gradient would do"


@pytest.mark.parametrize("name", MODELS)
def test_the_output_stays_and_nothing_is_left_behind(name):
    model, (ids, read) = made(name, bias=True), rows()
    before = gradients(model, ids, read, GAP)
    with relp(model):
        output, gradient = gradients(model, ids, read, GAP)
    after = gradients(model, ids, read, GAP)
    assert torch.equal(output, before[0])
    assert not torch.allclose(gradient, before[1], atol=1e-3)
    assert torch.equal(after[1], before[1])
    assert not any(module._forward_hooks for module in model.modules())


def test_hooks_go_when_the_pass_fails():
    model = made("neox")
    with pytest.raises(RuntimeError), relp(model):
        raise RuntimeError
    assert not any(module._forward_hooks for module in model.modules())


def test_an_architecture_that_is_not_known_is_not_guessed_at():
    model = BloomForCausalLM(BloomConfig(vocab_size=50, hidden_size=32, n_layer=1, n_head=2))
    with pytest.raises(Unobservable, match="BloomBlock"), relp(model):
        pass


def test_the_gradient_is_that_of_finite_differences():
    model, (ids, read) = made("neox", bias=True).double(), rows()
    embed = model.get_input_embeddings()
    output, gradient = gradients(model, ids, read, GAP)
    np.testing.assert_allclose(output, gaps(model, ids, read, GAP))
    step, direction = 1e-5, torch.randn(embed(ids).shape, generator=torch.Generator().manual_seed(2)).double()

    def moved(by):
        logits = model(inputs_embeds=embed(ids).detach() + by * direction).logits[torch.arange(4), read]
        return (logits[:, GAP[0]] - logits[:, GAP[1]]).detach()

    slope = (moved(step) - moved(-step)) / (2 * step)
    np.testing.assert_allclose((gradient * direction).sum((1, 2)), slope, rtol=1e-3, atol=1e-3)


def test_the_lens_is_the_decoder_on_each_blocks_output():
    model, (ids, read) = made("llama"), rows()
    tokens = torch.tensor([[1, 2], [3, 4], [5, 6], [7, 8]])
    found = model(input_ids=ids, output_hidden_states=True)
    layers = [model.lm_head(model.model.norm(state)) for state in found.hidden_states[1:-1]] + [found.logits]
    expected = torch.stack([layer[torch.arange(4), read].gather(1, tokens) for layer in layers]).mean(0)
    np.testing.assert_allclose(lens_logits(model, ids, read, tokens), expected.detach(), atol=1e-4)
