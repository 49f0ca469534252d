"""Configurations that no causal language model can be made of, and code that comes with one."""

from __future__ import annotations

import json
import shutil

import pytest
from text_samples import composed, facts
from transformers import BertConfig, BertLMHeadModel, RobertaConfig

from unlearn_cli.errors import ConfigError
from unlearn_cli.models.configuration import configuration, network
from unlearn_cli.models.folder import found

LOADED = "no causal language model that AutoModelForCausalLM loads"
FINE = "weights must be in float32, bfloat16 or float16"
CODE = "needs code of its own (auto_map), which unlearn does not run"


def change(folder, **values):
    config = json.loads((folder / "config.json").read_text()) | values
    (folder / "config.json").write_text(json.dumps({name: value for name, value in config.items() if value != "-"}))


def told(path, field="model.path"):
    with pytest.raises(ConfigError) as refused:
        network(found(str(path), field=field), field)
    (problem,) = refused.value.problems
    assert "\n" not in problem
    return problem.replace(str(path), "it").removeprefix(f"{field}: ")


@pytest.mark.parametrize(
    "values, said",
    [
        ({"model_type": "t5", "architectures": ["T5Model"]}, f"it is a T5Model (t5), {LOADED}"),
        ({"model_type": "vit", "architectures": "-"}, f"it is a ViTConfig (vit), {LOADED}"),
        ({"model_type": "bart", "architectures": ["BartModel"]}, f"it is a BartModel (bart), {LOADED}"),
        ({"model_type": "bert", "architectures": ["BertModel"]}, f"it is a BertModel (bert), {LOADED}"),
        ({"model_type": "-"}, "it cannot be loaded: config.json has no model_type"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, f"it is quantised (gptq); {FINE}"),
        ({"quantization_config": {"load_in_4bit": True}}, f"it is quantised (quantization_config); {FINE}"),
        ({"hidden_size": "abc"}, "config.json: Field 'hidden_size' expected int, got str (value: 'abc')"),
        ({"max_position_embeddings": "256"}, "Field 'max_position_embeddings' expected int, got str (value: '256')"),
        ({"num_attention_heads": 5, "head_dim": None}, "is not a multiple of the number of attention heads (5)"),
        ({"num_hidden_layers": -1}, "config.json: num_hidden_layers is -1; at least 1 allowed"),
        ({"num_hidden_layers": 0}, "config.json: num_hidden_layers is 0; at least 1 allowed"),
        ({"vocab_size": 0}, "config.json: vocab_size is 0; at least 1 allowed"),
        ({"hidden_act": "foo"}, "config.json: hidden_act 'foo' is unknown to transformers"),
        ({"rope_scaling": {"type": "odd"}}, "config.json: rope_scaling.type 'odd' is unknown to transformers"),
    ],
)
def test_a_config_of_no_causal_model_is_refused(copy, values, said):
    change(copy, **values)
    assert told(copy).endswith(said)


@pytest.mark.parametrize(
    "written, said",
    [
        (b'{"model_type": "lla', "is no JSON (Unterminated string"),
        (b"", "is no JSON (Expecting value"),
        (b"[]", "holds no JSON object"),
        (b'{"model_type": "llama", "x": "\xe4"}', "is not in UTF-8"),
        (b"[" * 100_000, "is no JSON ("),
    ],
)
def test_what_is_no_config_is_refused(copy, written, said):
    (copy / "config.json").write_bytes(written)
    assert told(copy).startswith(f"it cannot be loaded: config.json {said}")


def test_a_folder_named_config_json_is_told(copy):
    (copy / "config.json").unlink()
    (copy / "config.json").mkdir()
    assert told(copy) == "it cannot be loaded: config.json cannot be read (Is a directory)"


def test_an_encoder_that_decodes_is_read(tmp_path):
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    BertLMHeadModel(BertConfig(vocab_size=40, is_decoder=True, **sizes)).save_pretrained(tmp_path / "bert")
    assert network(found(str(tmp_path / "bert")), "model.path").config.is_decoder
    RobertaConfig(vocab_size=40, **sizes).save_pretrained(tmp_path)
    shutil.copy(tmp_path / "bert" / "model.safetensors", tmp_path)
    assert told(tmp_path) == f"it is a RobertaConfig (roberta), {LOADED}"


def test_none_for_a_quantisation_is_nothing(copy):
    change(copy, quantization_config=None)
    assert configuration(found(str(copy)), "model.path")["max_position_embeddings"] == 128


@pytest.fixture
def own_code(copy, monkeypatch):
    """A checkpoint whose code leaves a trace, and a terminal at which somebody says yes."""
    trace = copy / "it ran"
    code = f"open({str(trace)!r}, 'w')\nfrom transformers import LlamaConfig as Own, LlamaForCausalLM as LM\n"
    (copy / "own.py").write_text(code)
    asked = []
    monkeypatch.setattr("builtins.input", lambda *said: asked.append(said) or "y")
    yield copy
    assert not trace.exists() and not asked


def test_code_of_its_own_is_never_run_nor_offered(own_code, tmp_path, capsys):
    change(own_code, model_type="own", auto_map={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.LM"})
    files = [f"world.{part}={file}" for part, file in facts(tmp_path).items()]
    with pytest.raises(ConfigError) as refused:
        composed(tmp_path, "world=qa", *files, f"model.path={own_code}", "method=noop")
    assert refused.value.problems[0] == f"model.path: {own_code} {CODE}"
    assert capsys.readouterr().out == ""


def test_an_architecture_that_transformers_has_needs_no_code(own_code):
    change(own_code, auto_map={"AutoModelForCausalLM": "own.LM"})
    assert type(network(found(str(own_code)), "model.path")).__name__ == "LlamaForCausalLM"
    change(own_code, model_type="t5")
    assert told(own_code) == f"it {CODE}"


def test_a_tokenizer_s_code_is_never_run(own_code, tmp_path, capsys):
    (own_code / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": [None, "own.Own"]}}))
    files = [f"world.{part}={file}" for part, file in facts(tmp_path).items()]
    with pytest.raises(ConfigError) as refused:
        composed(tmp_path, "world=qa", *files, f"model.path={own_code}", "method=noop").check()
    assert refused.value.problems == [f"world.tokenizer: {own_code} {CODE}"]
    assert capsys.readouterr().out == ""
