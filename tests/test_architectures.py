"""What code here relies on in a decoder, on random models of many architectures: parts, shortcuts, decodings."""

import copy

import numpy as np
import pytest
import torch
import transformers
from torch._subclasses.fake_tensor import FakeTensorMode

from unlearn_cli.errors import UnlearnError
from unlearn_cli.guards.hooks import keys
from unlearn_cli.methods.editing.network import blocks, logits_above, matrix, only, output_of
from unlearn_cli.methods.editing.write import write_of
from unlearn_cli.methods.fisher import diagonal
from unlearn_cli.methods.scope import in_scope
from unlearn_cli.models.anatomy import INPUTS, centres, gain, mlp_matrix
from unlearn_cli.models.spread import spread
from unlearn_cli.observations.residual import final_norm, logits_at, streams
from unlearn_cli.worlds.language import Sentences

WIDTH, DEPTH = 32, 3
COMMON = {
    "hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": DEPTH, "num_attention_heads": 2,
    "max_position_embeddings": 64,
}  # fmt: skip
GROUPED = COMMON | {"num_key_value_heads": 1}
OLDER = {"n_embd": WIDTH, "n_layer": DEPTH, "n_head": 2, "n_positions": 64}
HEADED = GROUPED | {"head_dim": 16}
FAMILIES = {
    **dict.fromkeys(["GPTNeoX", "Phi", "BioGpt", "Persimmon"], COMMON),
    **dict.fromkeys(["Llama", "Mistral", "Qwen2", "Olmo", "Olmo2", "Olmo3", "StableLm", "Starcoder2", "Phi3"], GROUPED),
    **dict.fromkeys(["Nemotron", "Cohere", "Cohere2", "SmolLM3", "Exaone4", "Lfm2"], GROUPED),
    **dict.fromkeys(["Qwen3", "Gemma", "Gemma3Text", "Glm", "Glm4", "Ernie4_5", "Helium"], HEADED),
    **dict.fromkeys(["GPT2", "GPTBigCode"], OLDER),
    "Gemma2": HEADED | {"sliding_window": 4, "final_logit_softcapping": 0.5},
    "Granite": GROUPED | {"residual_multiplier": 0.22},
    "OPT": COMMON | {"ffn_dim": 64, "word_embed_proj_dim": WIDTH},
    "Bloom": {"hidden_size": WIDTH, "n_layer": DEPTH, "n_head": 2},
    "Falcon": {"hidden_size": WIDTH, "num_hidden_layers": DEPTH, "num_attention_heads": 2},
    "GPTJ": OLDER | {"rotary_dim": 8},
    "CodeGen": OLDER | {"n_head": 4, "rotary_dim": 4, "n_ctx": 64},
    "Mpt": {"d_model": WIDTH, "n_heads": 2, "n_layers": DEPTH, "max_seq_len": 64},
    "XGLM": {"d_model": WIDTH, "ffn_dim": 64, "num_layers": DEPTH, "attention_heads": 2, "max_position_embeddings": 64},
    "GPTNeo": {
        "hidden_size": WIDTH, "num_layers": DEPTH, "num_heads": 2, "intermediate_size": 64,
        "max_position_embeddings": 64, "attention_types": [[["global", "local", "global"], 1]],
    },
}  # fmt: skip
IDS = torch.arange(3, 21).reshape(2, 9)
READ = torch.tensor([[4, 6], [5, 8]])


@pytest.fixture(scope="module", params=FAMILIES)
def model(request):
    """With gains and biases that are not neutral."""
    config = getattr(transformers, f"{request.param}Config")
    torch.manual_seed(0)
    tokens = {"vocab_size": 40, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None}
    made = transformers.AutoModelForCausalLM.from_config(config(**tokens, **FAMILIES[request.param])).eval()
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return made


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


def logits(model):
    return model(input_ids=IDS, use_cache=False).logits


def test_parts_are_found(model):
    every = blocks(model)
    assert len(every) == DEPTH
    for block in every:
        assert matrix(output_of(block)).shape[0] == WIDTH
        assert mlp_matrix(block, INPUTS) is not None or hasattr(block.mlp, "gate_up_proj")
    inside = {id(weight) for block in every for name, weight in block.named_parameters() if weight.ndim == 2}
    chosen = {id(weight) for name, weight in model.named_parameters() if weight.ndim == 2 and in_scope(name, "blocks")}
    assert chosen == inside
    for scope in ("mlp", "attention"):
        assert any(in_scope(name, scope) for name, _ in model.named_parameters())


@torch.no_grad()
def test_the_blocks_above_go_on_from_what_the_ones_below_put_out(model):
    found, whole = streams(model, IDS), logits(model)
    rows = torch.arange(2)[:, None]
    for layer in range(DEPTH):
        close(logits_above(model, layer, IDS, found[layer + 1], READ), whole[rows, READ])
    close(logits_at(model, IDS, READ, {}), whole[rows, READ])
    close(logits_at(model, IDS, READ, {1: lambda out: 0 * out + found[2]}), whole[rows, READ])


@torch.no_grad()
def test_what_a_block_makes_of_what_its_mlp_puts_out(model):
    rows, place = torch.arange(2), torch.tensor([4, 7])
    change = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(2))
    for layer in range(DEPTH):
        module, values, write = output_of(blocks(model)[layer]), [], write_of(model, layer)

        def add(module, inputs, out, values=values):
            shaped = out.view(2, -1, WIDTH).clone()
            values.append(shaped[rows, place].clone())
            shaped[rows, place] += change
            return shaped.view_as(out)

        before = streams(model, IDS)[layer + 1]
        hook = module.register_forward_hook(add)
        after = streams(model, IDS)[layer + 1]
        hook.remove()
        close((after - before)[rows, place], write(values[0] + change) - write(values[0]))


@torch.no_grad()
def test_the_stream_is_decoded_by_final_norm_and_head(model):
    close(decoded(model, streams(model, IDS)[-1]), logits(model))
    with only(model, blocks(model)[:2]):
        part = logits(model)
    close(decoded(model, streams(model, IDS)[2]), part)


def decoded(model, states):
    """Logits of states, with what some architectures do to them at the end."""
    _, norm = final_norm(model)
    found = model.get_output_embeddings()(norm(states)) * (getattr(model.config, "logit_scale", None) or 1)
    cap = getattr(model.config, "final_logit_softcapping", None)
    return found if cap is None else cap * torch.tanh(found / cap)


@torch.no_grad()
def test_the_gain_of_a_norm(model):
    _, norm = final_norm(model)
    states = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(1))
    found, bias = gain(norm, states[0]), getattr(norm, "bias", None)
    assert centres(norm, states[0]) == ("RMS" not in type(norm).__name__)
    if centres(norm, states[0]):
        normed = (states - states.mean(-1, keepdim=True)) / states.std(-1, unbiased=False, keepdim=True)
    else:
        normed = states / states.square().mean(-1, keepdim=True).sqrt()
    close(norm(states), normed * found + (0 if bias is None else bias))


@torch.no_grad()
def test_keys_are_of_each_row_alone(model):
    at = torch.tensor([4, 7])
    found = keys(model, [0, 2], IDS, at)
    assert found.shape[:2] == (2, 2) and not torch.equal(found[0], found[1])
    for row in range(2):
        close(keys(model, [0, 2], IDS[[row]], at[[row]]), found[[row]])


@torch.no_grad()
def test_blocks_on_two_devices(model):
    """Devices that this machine lacks, faked: shapes and devices, no numbers."""
    divided = copy.deepcopy(model)
    with FakeTensorMode(allow_non_fake_inputs=True):
        spread(divided, ("cpu:0", "cpu:1"))
        where = {str(next(block.parameters()).device) for block in blocks(divided)}
        assert where == {"cpu:0", "cpu:1"}
        ids = torch.zeros(2, 9, dtype=torch.long, device="cpu:0")
        assert str(divided(input_ids=ids, use_cache=False).logits.device) == "cpu:0"
        assert {str(states.device) for states in streams(divided, ids)} == {"cpu:0"}


def test_what_torch_func_cannot_differentiate_is_told():
    config = transformers.BloomConfig(vocab_size=40, **FAMILIES["Bloom"])
    bloom = transformers.AutoModelForCausalLM.from_config(config)
    sentences = Sentences(IDS.numpy(), np.array([5, 5]), np.array([9, 9]), 1, np.array([2, 2]))
    with pytest.raises(UnlearnError, match="cannot differentiate functions of this architecture"):
        diagonal(bloom, sentences)
