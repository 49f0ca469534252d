"""How a block writes what its MLP puts out, and what editors make of that."""

import numpy as np
import pytest
import torch
import transformers
from guard_samples import asked, guarded, logits_of
from hypothesis import given, settings
from hypothesis import strategies as st
from test_editors import CPU, WORLD, changed, edit, network, success

from unlearn_cli.errors import UnlearnError
from unlearn_cli.methods.base import EditContext, EditData
from unlearn_cli.methods.editing.editor import Value
from unlearn_cli.methods.editing.write import Write, nearest, write_of
from unlearn_cli.methods.ft import FT
from unlearn_cli.methods.grace import GRACE
from unlearn_cli.methods.memit import MEMIT
from unlearn_cli.methods.rome import ROME
from unlearn_cli.training.loop import Runtime

SHAPE = {
    "vocab_size": WORLD.vocabulary.size, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 64,
    "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None, "initializer_range": 0.2,
}  # fmt: skip
FAMILIES = ["Llama", "Granite", "Gemma2", "Gemma3Text", "Olmo2", "Olmo3", "Exaone4", "Glm4"]


def of_family(name):
    """Untrained, with gains that are not neutral."""
    shape = SHAPE | ({"residual_multiplier": 0.22} if name == "Granite" else {})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = getattr(transformers, f"{name}Config")(**shape)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        for weight in model.parameters():
            weight.data.add_(0.1 * torch.randn_like(weight))
    return model


def likelihood(model, facts, targets, guard=None):
    """NLL of the targets in the first template."""
    _, _, _, answers = asked(facts, objects=targets)
    logits = logits_of(model, facts, guard, objects=targets)
    nll = -logits.log_softmax(-1).gather(-1, answers[..., None])[..., 0].mean(-1)
    return float(nll[:: len(WORLD.language.asked)].mean())


# --- ways to write


def test_a_scale_is_divided_by():
    write = Write(0.5)
    assert torch.equal(write(torch.tensor([4.0])), torch.tensor([2.0]))
    assert torch.equal(write.change(torch.zeros(1, 2), torch.tensor([[1.0, 3.0]])), torch.tensor([[2.0, 6.0]]))


def test_behind_a_norm_by_hand():
    """(3, 4) is normed to (.849, 1.131); to write (1, 1) more or less, it turns and keeps its length."""
    write = Write(norm=torch.nn.RMSNorm(2, eps=1e-12))
    value = torch.tensor([[3.0, 4.0]])
    change = write.change(value, torch.tensor([[1.0, 1.0]]) - write(value))
    torch.testing.assert_close(value + change, torch.full((1, 2), 12.5**0.5))


@pytest.mark.parametrize("norm", [torch.nn.RMSNorm(16), torch.nn.LayerNorm(16)])
def test_what_a_norm_can_write_is_written(norm):
    stream = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in norm.parameters():
            weight.add_(0.5 * torch.randn(16, generator=stream))
    value, other = torch.randn(2, 5, 16, generator=stream).double().unbind()
    write = Write(2.0, norm.double())
    wanted = write(other) - write(value)
    moved = value + write.change(value, wanted)
    torch.testing.assert_close(write(moved), write(other), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(moved.std(-1, unbiased=False), value.std(-1, unbiased=False), atol=0.5, rtol=0)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**16), size=st.floats(0.1, 10), spread=st.floats(0, 2))
def test_nothing_of_that_length_is_nearer(seed, size, spread):
    stream = torch.Generator().manual_seed(seed)
    gains = (spread * torch.randn(6, generator=stream)).exp().double()
    wanted = size * torch.randn(1, 6, generator=stream).double()
    found = nearest(gains, wanted)
    assert float(found.square().mean()) == pytest.approx(1)
    others = found + torch.logspace(-3, 1, 400)[:, None] * torch.randn(400, 6, generator=stream).double()
    others = others / others.square().mean(-1, keepdim=True).sqrt()
    distance = (gains * others - wanted).norm(dim=-1)
    assert float(distance.min()) >= float((gains * found - wanted).norm()) * (1 - 1e-9)


def test_a_block_that_does_something_else_is_told():
    model = network("llama")
    model.model.layers[0].mlp = torch.nn.Sequential(model.model.layers[0].mlp, torch.nn.Tanh())
    with pytest.raises(UnlearnError, match=r"LlamaDecoderLayer neither adds .* nor norms it"):
        write_of(model, 0)
    assert write_of(model, 1) == Write()


@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_does_not_hide_it(family):
    model = of_family(family)
    exact, rounded = write_of(model, 1), write_of(model.bfloat16(), 1)
    assert rounded.norm is exact.norm and rounded.scale == pytest.approx(exact.scale, rel=0.05)


# --- edits


@pytest.mark.parametrize("family", FAMILIES)
def test_one_edit_answers_as_well_as_its_value_did(family):
    base = of_family(family)
    search = Value(steps=20, weight_decay=0.0)
    edited, report, targets = edit(ROME(contexts=1, value=search), base, facts=(7,))
    (name,) = changed(base, edited)
    assert ".2.mlp.down_proj" in name
    assert likelihood(edited, [7], targets) == pytest.approx(report.notes["value_loss"], abs=1e-4)
    assert report.notes["value_loss"] < likelihood(base, [7], targets) - 0.3


@pytest.mark.parametrize("family", FAMILIES)
def test_a_codebook_answers_as_well_as_its_values_did(family):
    model, facts = of_family(family), np.array([7])
    target = (WORLD.facts.object[facts] + 1) % 6
    book, report = guarded(GRACE(layer=1, contexts=1, steps=10), model, facts=facts, target=target)
    assert likelihood(model, facts, target, book) == pytest.approx(report.notes["value_loss"], abs=1e-4)


@pytest.mark.parametrize("family", ["Granite", "Gemma3Text", "Olmo2"])
def test_editors_write_their_targets_behind_norms_and_scales(family):
    base, facts, rest = of_family(family), WORLD.only(np.arange(114)), np.arange(30, 114)
    learn = FT(steps=300, lr=5e-3, scope="all", stop_loss=0.05, retain_loss="none")
    learn.edit(base, EditData(facts, facts.facts.object, None), EditContext(Runtime("edit", CPU), 0))
    for method in (ROME(layer=1), MEMIT(layers=[0, 1], lam=1.0)):
        edited, _, targets = edit(method, base)
        assert success(base, targets) < 0.1 and success(edited, targets) > 0.85
        assert success(edited, WORLD.facts.object[rest], facts=rest) > 0.6
