"""A model whose blocks lie on several devices; those that this machine lacks are faked: no numbers, but a place."""

import copy

import pytest
import torch
from text_samples import network
from torch._subclasses.fake_tensor import FakeTensorMode

from unlearn_cli.errors import UnlearnError
from unlearn_cli.models.forward import answer_logits
from unlearn_cli.models.gpt_neox import GPTNeoX
from unlearn_cli.models.spread import blocks_of, is_spread, parts, spread
from unlearn_cli.observations.residual import streams

IDS = torch.arange(3, 21).reshape(2, 9)


def neox(layers: int = 4, **fields):
    return GPTNeoX(hidden_size=32, layers=layers, heads=2, mlp_size=64, **fields).build(40, 12, seed=0).eval()


def llama():
    return network("llama", 40, num_hidden_layers=4, num_key_value_heads=1, tie_word_embeddings=True).eval()


@pytest.mark.parametrize(("devices", "expected"), [(1, "aaaa"), (2, "aabb"), (3, "abbc"), (4, "abcd")])
def test_parts_are_of_equal_bytes_and_the_first_one_has_the_rest(devices, expected):
    """Four blocks of 8 544 numbers and 1 344 outside them: middles at 16, 40, 64 and 88 % of 35 520."""
    model = neox(tied=True)
    blocks = blocks_of(model)
    sizes = [sum(p.numel() for p in block.parameters()) for block in blocks]
    assert sizes == [8544] * 4 and sum(p.numel() for p in model.parameters()) == 35520
    assert "".join(parts(model, blocks, "abcd"[:devices])) == expected


def test_wide_embeddings_leave_the_first_device_to_themselves():
    model = GPTNeoX(hidden_size=32, layers=2, heads=2, mlp_size=64).build(1000, 12, seed=0)
    assert parts(model, blocks_of(model), "ab") == ["b", "b"]


@pytest.mark.parametrize("make", [neox, llama])
def test_every_part_computes_where_its_weights_are(make):
    model = make()
    with FakeTensorMode(allow_non_fake_inputs=True):
        spread(model, ("cpu:0", "cpu:1"))
        where = [str(next(block.parameters()).device) for block in blocks_of(model)]
        assert where == ["cpu:0", "cpu:0", "cpu:1", "cpu:1"]
        outside = [p for name, p in model.named_parameters() if ".layers." not in name]
        assert {str(p.device) for p in outside} == {"cpu:0"}
        ids = torch.zeros(2, 9, dtype=torch.long, device="cpu:0")
        assert {str(states.device) for states in streams(model, ids)} == {"cpu:0"}
        logits = model(input_ids=ids, use_cache=False).logits
        assert str(logits.device) == "cpu:0"
        logits.square().sum().backward()
        assert all(p.grad.device == p.device for p in model.parameters())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        torch.optim.AdamW(model.parameters()).step()
        for block in blocks_of(model):
            block._forward_pre_hooks.clear()
        with pytest.raises(RuntimeError, match="device"):  # a mix of the two does not go unseen here
            model(input_ids=ids, use_cache=False)


@pytest.mark.parametrize("make", [neox, llama])
def test_the_same_numbers(make):
    plain, model = make(), spread(make(), ("cpu", "cpu"))
    assert is_spread(model) and not is_spread(plain)
    for positions in (torch.tensor([4, 8]), torch.tensor([[2, 4], [7, 8]])):
        torch.testing.assert_close(answer_logits(model, IDS, positions), answer_logits(plain, IDS, positions))
    for mine, own in zip(streams(model, IDS), streams(plain, IDS), strict=True):
        torch.testing.assert_close(mine, own)
    for one in (model, plain):
        one(input_ids=IDS).logits.square().sum().backward()
    for mine, own in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine.grad, own.grad)


def test_gradients_of_activations_that_are_computed_again():
    plain, model = llama(), spread(llama(), ("cpu", "cpu"))
    model.activation_checkpointing_enable({"use_reentrant": False})
    for one in (model, plain):
        one.train()(input_ids=IDS).logits.square().sum().backward()
    for mine, own in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, own.grad)


def test_what_a_block_writes_to_stays_its_own():
    """A cache of keys and values is passed on, not copied: decoding step by step says what it does without."""
    plain, model = llama(), spread(llama(), ("cpu", "cpu"))
    said = [one.generate(IDS, max_new_tokens=6, do_sample=False, pad_token_id=0) for one in (plain, model)]
    assert torch.equal(*said)
    assert torch.equal(said[1], model.generate(IDS, max_new_tokens=6, do_sample=False, pad_token_id=0, use_cache=False))


def test_a_copy_and_a_second_time_add_nothing():
    model = spread(spread(neox(), ("cpu", "cpu")), ("cpu", "cpu"))
    for one in (model, copy.deepcopy(model)):
        assert [len(block._forward_pre_hooks) for block in blocks_of(one)] == [1] * 4
        assert [len(block._forward_hooks) for block in blocks_of(one)] == [1] * 4


def test_one_device_needs_no_moves():
    model = spread(neox(), ("cpu",))
    assert not is_spread(model) and not any(block._forward_pre_hooks for block in blocks_of(model))


def test_a_model_without_a_list_of_blocks_is_refused():
    model = neox()
    model.config.num_hidden_layers = 5
    with pytest.raises(UnlearnError, match="device_map: auto cannot divide this model"):
        spread(model, ("cpu", "cpu"))
