"""Perplexity of a text: plain transformers' loss, whatever the windows; skipped where there is nothing to read."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import text_samples
import torch
from experiments import quick
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from unlearn_cli import run
from unlearn_cli.config import build_dataclass
from unlearn_cli.edits.given import Forgetting
from unlearn_cli.errors import ConfigError
from unlearn_cli.evaluation import Bootstrap, Evaluation
from unlearn_cli.experiment import Gold
from unlearn_cli.guards.base import Guard, Guarded
from unlearn_cli.methods.noop import Noop
from unlearn_cli.metrics.text_perplexity import TextPerplexity
from unlearn_cli.models.pretrained import Pretrained
from unlearn_cli.observations.base import Unobservable
from unlearn_cli.observations.general_text import GeneralText, scored, tokens
from unlearn_cli.observing import scene_of
from unlearn_cli.study import Study
from unlearn_cli.training.recipe import NoTraining
from unlearn_cli.worlds.text.qa import QA
from unlearn_cli.worlds.text.tokens import TextTokens

TEXT = "Seven sleepy seals\nsat by the sea, über Köln, and said: “no”.\n" * 3
SIZE = 258  # bytes and two special tokens


def tokenizer(folder, begins=False):
    """Bytes as tokens; with a start token before every text, or without."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    ids = {text: place for place, text in enumerate(["<s>", "</s>", *letters])}
    inner = Tokenizer(models.BPE(vocab=ids, merges=[]))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    if begins:
        inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    return str(folder)


def network(kind, longest=1024):
    return text_samples.network(kind, SIZE, longest).eval()


def ids_of(folder, begins=False):
    return tokens(TextTokens(tokenizer(folder, begins), (), "bare"), TEXT)


def plain_loss(model, ids):
    part = torch.from_numpy(ids)[None]
    with torch.no_grad():
        return float(model(input_ids=part, labels=part).loss)


@pytest.mark.parametrize("kind", ["llama", "neox", "gpt2"])
def test_one_window_has_the_loss_of_plain_transformers(kind, tmp_path):
    ids, model = ids_of(tmp_path), network(kind)
    assert len(ids) == len(TEXT.encode())
    nll = scored(model, ids, 1024)
    assert nll.dtype == np.float32
    assert nll.mean() == pytest.approx(plain_loss(model, ids), rel=1e-6)


@pytest.mark.parametrize("window", [2, 3, 50, 201, 202, 203])
def test_windows_score_every_token_but_the_first_once(window, tmp_path):
    ids, model = ids_of(tmp_path), network("llama")
    nll = scored(model, ids, window)
    assert len(nll) == len(ids) - 1
    parts = [ids[start : start + window] for start in range(0, len(ids) - 1, window - 1)]
    by_hand = sum(plain_loss(model, part) * (len(part) - 1) for part in parts) / (len(ids) - 1)
    assert nll.mean(dtype="float64") == pytest.approx(by_hand, rel=1e-6)


def test_a_model_that_reads_one_token_has_the_same_perplexity_in_every_window(tmp_path):
    ids, model = ids_of(tmp_path), network("llama")
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.data.zero_()
    whole = scored(model, ids, 1024)
    for window in (2, 7, 64):
        np.testing.assert_allclose(scored(model, ids, window), whole, rtol=1e-5)


def test_the_text_begins_as_the_tokenizer_begins_every_text(tmp_path):
    plain, begun = ids_of(tmp_path / "a"), ids_of(tmp_path / "b", begins=True)
    assert begun.tolist() == [0, *plain.tolist()]


class Uniform(Guard):
    """Says every token with equal probability."""

    config = {}  # noqa: RUF012

    def answer_logits(self, model, input_ids, positions, prompt_end):
        return torch.zeros(*positions.shape, SIZE)


def test_it_asks_through_the_guard(tmp_path):
    nll = scored(Guarded(network("llama"), Uniform()), ids_of(tmp_path), 1024)
    np.testing.assert_allclose(nll, math.log(SIZE), rtol=1e-6)


def experiment(folder, **changes):
    """A pretrained model of 64 positions, questions for it, and a text."""
    path = tokenizer(folder / "model")
    network("llama", longest=64).save_pretrained(path)
    (folder / "forget.jsonl").write_text(json.dumps({"question": "a b", "answer": "c"}) + "\n")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    return quick(
        folder,
        world=QA(forget=str(folder / "forget.jsonl"), tokenizer=path, style="bare"),
        edit=Forgetting(),
        model=Pretrained(path=path),
        train=NoTraining(),
        gold=Gold(n=0),
        method=Noop(),
        metric={"text_perplexity": TextPerplexity(path=str(folder / "text.txt"), **changes)},
    )


def test_a_run_reads_no_more_at_a_time_than_the_model_can(tmp_path):
    made = experiment(tmp_path)
    found = run(made).metrics["text_perplexity/perplexity"]
    ids = tokens(TextTokens(made.model.path, (), "bare"), TEXT)
    expected = math.exp(scored(network("llama", longest=64), ids, 64).mean(dtype="float64"))
    assert found["value"] == pytest.approx(expected, rel=1e-5)
    assert found["base"] == {"value": found["value"], "n": found["n"], "ci": None}
    assert (found["n"], found["gold"], found["direction"]) == (len(ids) - 1, None, "lower")


def test_a_changed_text_is_read_again(tmp_path):
    made = experiment(tmp_path)
    first = run(made).metrics["text_perplexity/perplexity"]
    (tmp_path / "text.txt").write_text("seals", encoding="utf-8")
    second = run(made).metrics["text_perplexity/perplexity"]
    assert first["n"] > second["n"] == 4


def test_base_gold_and_ratio_by_hand(tmp_path):
    path = tmp_path / "text"
    path.write_text("x")
    metric = TextPerplexity(path=str(path))
    (observation,) = metric.observations
    nll = {"base": [1.0, 3.0], "edited": [2.0, 4.0], "gold": [0.0, 2.0]}
    seen = {(role, observation): ({"nll": np.array(values, dtype=np.float32)},) for role, values in nll.items()}
    seen["gold", observation] += ({"nll": np.array([2.0, 2.0])},)
    probes = Study.of(quick(tmp_path)).probes
    values = metric.compute(Evaluation(probes, {}, {}, {}, Bootstrap(), seen))
    found = values["text_perplexity/perplexity"]
    assert found.edited.value == pytest.approx(math.exp(3))
    assert found.base.value == pytest.approx(math.exp(2))
    assert found.gold.value == pytest.approx(math.exp(1.5))
    assert values["text_perplexity/ratio"].edited.value == pytest.approx(math.e)


def test_a_value_beyond_all_floats_is_skipped(tmp_path):
    path = tmp_path / "text"
    path.write_text("x")
    metric = TextPerplexity(path=str(path))
    seen = {("edited", metric.observations[0]): ({"nll": np.array([900.0])},)}
    values = metric.compute(Evaluation(Study.of(quick(tmp_path)).probes, {}, {}, {}, Bootstrap(), seen))
    assert {value.status for value in values.values()} == {"skipped"}


@pytest.mark.parametrize("text", [None, TEXT])
def test_without_a_text_or_a_tokenizer_of_text_it_is_skipped(text, tmp_path):
    study = Study.of(quick(tmp_path))
    path = tmp_path / "text"
    path.write_text(TEXT, encoding="utf-8")
    observation = GeneralText(path=text and str(path), sha256=None, window=8)
    with pytest.raises(Unobservable, match="tokenizer" if text else "names no text"):
        observation.observe(network("llama"), scene_of(study))


@pytest.mark.parametrize(("content", "told"), [(None, "cannot be read"), (b"\xff", "no UTF-8 text: byte 0")])
def test_a_file_that_is_no_text_is_refused_before_a_run(content, told, tmp_path):
    path = tmp_path / "text"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"metric.text_perplexity.path: .*{told}"):
        build_dataclass(TextPerplexity, {"path": str(path)}, "metric.text_perplexity")


def test_a_text_of_one_token_is_skipped(tmp_path):
    made = experiment(tmp_path)
    (tmp_path / "text.txt").write_text("s")
    found = run(replace(made)).metrics["text_perplexity"]
    assert (found["status"], found["reason"]) == ("skipped", "the text has 1 tokens, and the first is given")
