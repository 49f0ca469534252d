"""Weights that do not fill the network of their configuration: transformers would go on with random numbers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from text_samples import checkpoint, composed, facts, network
from transformers import AutoModelForCausalLM, MixtralConfig

from unlearn_cli.errors import ConfigError, UnlearnError
from unlearn_cli.models.checkpoint import given, load
from unlearn_cli.models.folder import found
from unlearn_cli.models.pretrained import Pretrained
from unlearn_cli.models.weights import whole
from unlearn_cli.pipeline import run

NOISE = "attn.rotary_emb.inv_freq", "attn.masked_bias", "attn.bias"  # buffers that older versions saved


@pytest.fixture
def broken(llama, tmp_path):
    """A function that writes a copy with other tensors, and with other values in its config.json."""

    def made(tensors=lambda held: held, **config):
        path = Path(shutil.copytree(llama, tmp_path / "model"))
        weights, settings = path / "model.safetensors", path / "config.json"
        save_file(tensors(load_file(weights)), weights, metadata={"format": "pt"})
        settings.write_text(json.dumps(json.loads(settings.read_text()) | config))
        return path

    return made


def without(part):
    return lambda held: {name: tensor for name, tensor in held.items() if part not in name}


def filled(part, value):
    return lambda held: {n: torch.full_like(t, value) if part in n else t for n, t in held.items()}


def cut(name):
    return lambda held: held | {name: held[name][:-1].contiguous()}


def told(path, field="model.path"):
    """What is said before anything runs."""
    with pytest.raises(ConfigError) as refused:
        whole(found(str(path), field=field), field)
    (problem,) = refused.value.problems
    with pytest.raises(ConfigError):
        given(path, field)
    return problem.replace(str(path), "it").removeprefix(f"{field}: ")


def test_missing_tensors_are_counted(broken):
    said = "it lacks model.layers.1.mlp.down_proj.weight and 2 more tensors of a LlamaForCausalLM"
    assert told(broken(without("layers.1.mlp"))) == said


@pytest.mark.parametrize(
    "tensors, config, said",
    [
        (without("lm_head"), {}, "it lacks lm_head.weight of a LlamaForCausalLM"),
        (lambda held: held, {"num_hidden_layers": 3}, "it lacks model.layers.2.input_layernorm.weight and 8 more"),
        (lambda held: {f"transformer.{n}": t for n, t in held.items()}, {}, "it lacks lm_head.weight and 20 more"),
        (lambda held: held, {"vocab_size": 900}, ", and (900, 32) by its config.json (1 more differ)"),
        (lambda held: held, {"hidden_size": 64}, " by its config.json (20 more differ)"),
        (lambda held: held, {"num_hidden_layers": 1}, "it holds model.layers.1.input_layernorm.weight and 8 more"),
        (lambda held: {n: t.to(torch.int8) for n, t in held.items()}, {}, " is in I8; weights must be in float32, "),
    ],
)
def test_what_does_not_fit_is_refused_by_its_header(broken, tensors, config, said):
    assert said in told(broken(tensors, **config))


def test_a_shape_is_told_with_the_config_s(broken):
    path = broken(cut("lm_head.weight"))
    rows = json.loads((path / "config.json").read_text())["vocab_size"]
    assert told(path) == f"lm_head.weight of it is ({rows - 1}, 32), and ({rows}, 32) by its config.json"


def test_extra_buffers_are_no_block(broken):
    extra = {f"model.layers.0.{name}": torch.ones(4) for name in NOISE} | {"value_head.weight": torch.ones(4)}
    path = broken(lambda held: held | extra)
    whole(path, "model.path")
    given(path, "model.path")


@pytest.mark.parametrize("family", ["gpt2", "llama", "neox"])
def test_an_output_layer_that_is_the_embeddings_need_not_be_there(tmp_path, family):
    path = checkpoint(tmp_path, family, tied=True)
    assert not any("lm_head" in name or "embed_out" in name for name in load_file(path / "model.safetensors"))
    whole(path, "model.path")


def test_a_base_model_without_prefix_is_whole(tmp_path):
    """As the first GPT-2 was saved, with its masks."""
    model = network("gpt2", 300)
    model.transformer.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    masks = {f"h.{layer}.attn.{name}": torch.ones(1) for layer in (0, 1) for name in ("bias", "masked_bias")}
    save_file(load_file(weights) | masks, weights, metadata={"format": "pt"})
    whole(tmp_path, "model.path")
    ours, theirs = given(tmp_path, "model.path").state_dict(), model.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_experts_that_are_saved_one_by_one_are_whole(tmp_path):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64, "num_local_experts": 4}
    config = MixtralConfig(vocab_size=40, num_attention_heads=2, num_key_value_heads=2, **sizes)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    held = load_file(tmp_path / "model.safetensors")
    (one, *_) = [name for name in held if "experts.2." in name]
    whole(tmp_path, "model.path")
    given(tmp_path, "model.path")
    held.pop(one)
    save_file(held, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="cannot be loaded"):
        given(tmp_path, "model.path")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_that_are_not_finite_are_no_model(broken, value, dtype):
    path = broken(filled("layers.1.mlp", value))
    with pytest.raises(ConfigError) as refused:
        Pretrained(path=str(path), dtype=dtype).build(200, 64, 0)
    said = f"model.path: model.layers.1.mlp.gate_proj.weight of {path} holds values that are not finite"
    assert refused.value.problems == [said]


def test_weights_that_a_dtype_cannot_hold_are_told_with_it(broken):
    path = broken(filled("lm_head", 1e6))
    Pretrained(path=str(path)).build(200, 64, 0)
    with pytest.raises(ConfigError, match=r"lm_head\.weight of .* not finite in float16$"):
        Pretrained(path=str(path), dtype="float16").build(200, 64, 0)


@pytest.mark.parametrize("field", ["model.path", "method.path", "gold.path"])
def test_a_run_ends_with_the_sentence(broken, llama, tmp_path, field):
    path = broken(filled("lm_head", float("nan")))
    files = [f"world.{part}={file}" for part, file in facts(tmp_path).items()]
    model = [] if field == "model.path" else [f"model.path={llama}"]
    method = "method=checkpoint" if field == "method.path" else "method=noop"
    result = run(composed(tmp_path, "world=qa", *files, *model, method, f"{field}={path}"))
    assert result.status == "failed"
    assert f"{field}: lm_head.weight of {path} holds values that are not finite" in str(result.error)


@pytest.mark.parametrize("field", ["model.path", "method.path", "gold.path"])
def test_no_checkpoint_is_filled_with_random_numbers(broken, llama, tmp_path, field):
    path = broken(without("layers.1.mlp"))
    files = [f"world.{part}={file}" for part, file in facts(tmp_path).items()]
    method = "method=checkpoint" if field == "method.path" else "method=noop"
    model = [] if field == "model.path" else [f"model.path={llama}"]
    with pytest.raises(ConfigError) as refused:
        composed(tmp_path, "world=qa", *files, method, *model, f"{field}={path}")
    (problem,) = refused.value.problems
    assert problem.startswith(f"{field}: {path} lacks model.layers.1.mlp.down_proj.weight and 2 more tensors of a ")


@pytest.mark.parametrize("field", ["method.path", "gold.path"])
def test_another_state_has_the_base_s_tensors_and_no_others(llama, tmp_path, field):
    files = [f"world.{part}={file}" for part, file in facts(tmp_path).items()]
    method = "method=checkpoint" if field == "method.path" else "method=noop"
    for other, base, said in (
        (checkpoint(tmp_path / "3", num_hidden_layers=3), llama, "model.layers.2.self_attn.q_proj.weight is (32, 32) "),
        (checkpoint(tmp_path / "1", num_hidden_layers=1), llama, "model.layers.1.self_attn.q_proj.weight is missing "),
        (llama, checkpoint(tmp_path / "tied", tied=True), "tie_word_embeddings is false there and true in the base"),
    ):
        with pytest.raises(ConfigError) as refused:
            composed(tmp_path, "world=qa", *files, f"model.path={base}", method, f"{field}={other}")
        (problem,) = refused.value.problems
        assert problem.startswith(f"{field}: {other} is no edit of the base: {said}")


def test_an_artifact_that_lost_a_tensor_is_not_filled_up(broken):
    with pytest.raises(UnlearnError, match=r"lacks lm_head\.weight of a LlamaForCausalLM"):
        load(broken(without("lm_head")))


def test_nothing_of_it_is_written_to_the_terminal(broken, capfd):
    told(broken(without("layers.1.mlp")))
    assert capfd.readouterr() == ("", "")
