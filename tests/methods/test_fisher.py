"""The diagonal Fisher information, and LoRA adapters that start from it."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from unlearn_cli.errors import UnlearnError
from unlearn_cli.machine import Numerics
from unlearn_cli.methods.base import EditContext, EditData
from unlearn_cli.methods.fila import factors, importance, initialise
from unlearn_cli.methods.fisher import diagonal, nll
from unlearn_cli.methods.ihl import IHL
from unlearn_cli.methods.loss import Adapter
from unlearn_cli.methods.scope import prepare
from unlearn_cli.models.gpt_neox import GPTNeoX
from unlearn_cli.training.fit import read_answers
from unlearn_cli.training.loop import Runtime
from unlearn_cli.worlds.tabular import Tabular
from unlearn_cli.worlds.vocabulary import PADDING

WORLD = Tabular(subjects=40, relations=2, objects=6, holdout_subjects=2, object_tokens=2).build(0)
DATA = EditData(WORLD.only(np.arange(0, 16, 2)), None, WORLD.only(np.arange(20, 60)))
CPU = torch.device("cpu")


def neox(**changes):
    return GPTNeoX(hidden_size=32, heads=2, mlp_size=64, **changes).build(WORLD.vocabulary.size, WORLD.max_length, 0)


def llama():
    config = LlamaConfig(
        vocab_size=WORLD.vocabulary.size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(config)


def gpt2():
    config = GPT2Config(vocab_size=WORLD.vocabulary.size, n_embd=32, n_layer=2, n_head=2, n_inner=48)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GPT2LMHeadModel(config)


def sentences(n=12, seed=0):
    """Every second one has a token more in front."""
    written = WORLD.sentences(np.arange(n), np.random.default_rng(seed).choice(WORLD.language.asked, n))
    ids, longer = np.pad(written.input_ids, [(0, 0), (0, 1)], constant_values=PADDING), np.arange(n) % 2
    ids[1::2] = np.roll(ids[1::2], 1, axis=1)
    return replace(written, input_ids=ids, answer_start=written.answer_start + longer, length=written.length + longer)


def squared_gradients(model, written, rows):
    """By backward passes, of the mean NLL of some rows."""
    network = copy.deepcopy(model)
    logits, labels = read_answers(network, written, CPU)
    nll(logits[rows], labels[rows]).backward()
    return {name: p.grad**2 for name, p in network.named_parameters()}


def mean_of(pieces):
    return {name: torch.stack([piece[name] for piece in pieces]).mean(0) for name in pieces[0]}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert float((found[name] - tensor).abs().max()) <= 1e-4 * float(tensor.abs().max()), name


@pytest.mark.parametrize("build", [neox, lambda: neox(tied=True), llama])
def test_per_example_is_the_mean_of_each_sentences_squared_gradient(build):
    model, written = build().eval(), sentences()
    assert len(np.unique(written.answer_start)) > 1
    expected = mean_of([squared_gradients(model, written, [row]) for row in range(12)])
    assert_same(diagonal(model, written), expected)
    assert all(p.grad is None for p in model.parameters())


def test_per_batch_squares_the_mean_gradient_of_batches_weighted_by_their_size():
    model, written = neox().eval(), sentences()
    first, second = (squared_gradients(model, written, rows) for rows in (range(8), range(8, 12)))
    expected = {name: (8 * first[name] + 4 * second[name]) / 12 for name in first}
    assert_same(diagonal(model, written, "per_batch", batch=8), expected)
    assert_same(diagonal(model, written, "per_batch", batch=1), diagonal(model, written))


def test_it_takes_other_losses_and_frozen_weights():
    model, written = neox().eval().requires_grad_(False), sentences()
    doubled = diagonal(model, written, loss=lambda logits, labels: 2 * nll(logits, labels))
    assert_same(doubled, {name: 4 * tensor for name, tensor in diagonal(model, written).items()})


def test_fila_factors_of_full_rank_leave_almost_nothing():
    stream = torch.Generator().manual_seed(0)
    weight, ratio = torch.randn(5, 8, generator=stream).double(), torch.rand(5, 8, generator=stream).double()
    a, b = factors(weight, ratio, rank=5, scale=2.0)
    rows = ratio.sum(1, keepdim=True).sqrt()
    torch.testing.assert_close(weight - 2.0 * b @ a, 1e-5 / (rows + 1e-5) * weight)


def test_fila_factors_of_low_rank_are_the_best_for_the_weighted_rows():
    stream = torch.Generator().manual_seed(0)
    weight, ratio = torch.randn(6, 6, generator=stream).double(), torch.rand(6, 6, generator=stream).double()
    a, b = factors(weight, ratio, rank=2, scale=0.5)
    rows = ratio.sum(1, keepdim=True).sqrt()
    left = torch.linalg.matrix_norm(rows * weight - 0.5 * (rows + 1e-5) * (b @ a))
    tail = torch.linalg.svdvals(rows * weight)[2:].square().sum().sqrt()
    torch.testing.assert_close(left, tail)  # Eckart-Young


@pytest.mark.parametrize("build", [neox, llama, gpt2])
@pytest.mark.parametrize("alpha", [None, 8])
def test_fila_leaves_the_model_as_it_is_and_the_adapter_not_empty(build, alpha):
    model = build().eval()
    before = read_answers(model, sentences(), CPU)[0].detach()
    ratios, tokens = importance(model, DATA, seed=0)
    start = copy.deepcopy(model)
    adapted = prepare(model, "mlp", Adapter(rank=4, alpha=alpha, init="fila"), 0)
    initialise(adapted, ratios)
    after = read_answers(adapted, sentences(), CPU)[0].detach()
    assert tokens > 0 and float((after - before).abs().max()) < 1e-4
    held, empty = dict(model.named_parameters()), []
    for name, p in start.named_parameters():
        if (residual := held.get(name.replace(".weight", ".base_layer.weight"))) is not None and "mlp" in name:
            empty += [name] if p.ndim == 2 and torch.equal(residual, p) else []
    assert empty == []


def test_fila_takes_more_of_the_rows_that_forget_facts_need():
    weight = torch.eye(4).double() + 0.1
    ratio = torch.tensor([100.0, 1.0, 1.0, 1.0]).double()[:, None].expand(4, 4)
    a, b = factors(weight, ratio, rank=1, scale=1.0)
    share = (b @ a).norm(dim=1) / weight.norm(dim=1)
    assert share[0] > 0.99 and share[1:].max() < 0.7


def test_fila_weighs_the_rows_of_a_transposed_matrix():
    model = gpt2().eval()
    name = "transformer.h.0.mlp.c_fc"
    weight = model.get_submodule(name).weight.detach().clone().T
    ratios, _ = importance(model, DATA, seed=0)
    adapted = prepare(model, "mlp", Adapter(rank=4, init="fila"), 0)
    initialise(adapted, ratios)
    a, b = factors(weight, ratios[f"{name}.weight"].T, 4, 1.0)
    module = adapted.get_base_model().get_submodule(name)
    assert weight.shape == (48, 32)
    torch.testing.assert_close(module.lora_B["default"].weight, b.float())
    torch.testing.assert_close(module.lora_A["default"].weight, a.float())
    torch.testing.assert_close(module.base_layer.weight.T, weight - (b @ a).float())


@pytest.mark.filterwarnings("error:fan_in_fan_out")
@pytest.mark.parametrize("scope", ["blocks", "mlp_out"])
def test_an_adapter_on_gpt2_is_one_of_the_rank_and_is_merged(scope):
    base = gpt2().eval()
    model = copy.deepcopy(base)
    context = EditContext(Runtime("edit", Numerics("cpu", 1, 1, "fp32")), 0)
    report = IHL(steps=3, lr=1e-2, scope=scope, adapter=Adapter(rank=2)).edit(model, DATA, context)
    pairs = dict(model.named_parameters())
    deltas = {name: (pairs[name] - old).detach() for name, old in base.named_parameters()}
    matrices = {"mlp_out": ["mlp.c_proj"], "blocks": ["mlp.c_fc", "mlp.c_proj", "attn.c_attn", "attn.c_proj"]}[scope]
    expected = {f"transformer.h.{block}.{name}.weight" for block in (0, 1) for name in matrices}
    assert {name for name, delta in deltas.items() if delta.any()} == expected
    assert {int(torch.linalg.matrix_rank(deltas[name], rtol=1e-4)) for name in expected} == {2}
    assert report.trainable_parameters == sum(2 * sum(deltas[name].shape) for name in expected)


def test_an_adapter_says_where_it_has_no_place():
    with pytest.raises(UnlearnError, match=r"method\.scope: regex:norm names no matrix .* method\.adapter\.rank"):
        prepare(neox(), "regex:norm", Adapter(rank=2), 0)
    with pytest.raises(UnlearnError, match=r"method\.scope: regex:lm_head\|c_fc names matrices stored both ways round"):
        prepare(gpt2(), "regex:lm_head|c_fc", Adapter(rank=2), 0)


def test_an_edit_with_fila_changes_its_scope_only_and_is_merged():
    base = neox().eval()
    model = copy.deepcopy(base)
    method = IHL(steps=3, lr=1e-3, scope="mlp", adapter=Adapter(rank=4, init="fila"))
    context = EditContext(Runtime("edit", Numerics("cpu", 1, 1, "fp32")), 0)
    with_fila = method.edit(model, DATA, context)
    without = IHL(steps=3, lr=1e-3, scope="mlp", adapter=Adapter(rank=4)).edit(copy.deepcopy(base), DATA, context)
    after = model.state_dict()
    changed = {name for name, tensor in base.state_dict().items() if not torch.equal(tensor, after[name])}
    assert changed == {name for name in after if "mlp" in name and name.endswith("weight")}
    assert with_fila.backward_tokens > without.backward_tokens  # the Fisher passes are counted


def test_fila_says_what_it_cannot_do():
    with pytest.raises(ValueError, match="init = fila: initialises an adapter, so rank >= 1"):
        Adapter(init="fila")
    with pytest.raises(ValueError, match=r"adapter.init = fila: weighs forget against retain facts"):
        IHL(adapter=Adapter(rank=2, init="fila"), retain_loss="none")
    tied = neox(tied=True).eval()
    ratios, _ = importance(tied, DATA, seed=0)
    adapter = Adapter(rank=2, init="fila")
    with pytest.raises(UnlearnError, match=r"fila cannot split .*, whose weights are those of another part"):
        initialise(prepare(tied, "regex:^(embed_out|lm_head)", adapter, 0), ratios)
