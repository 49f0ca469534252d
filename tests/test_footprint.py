"""Memory: counts that are exact, estimates against what is measured, real exhaustion, and settings that then fit."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from experiments import quick
from subprocess_env import ENVIRONMENT
from transformers import GPTNeoXConfig, LlamaConfig, LlamaForCausalLM

from unlearn_cli import headroom, memory
from unlearn_cli.errors import UnlearnError
from unlearn_cli.footprint import footprint
from unlearn_cli.headroom import advice, announce, explained
from unlearn_cli.machine import Numerics
from unlearn_cli.methods.loss import Adapter
from unlearn_cli.methods.mask import Mask
from unlearn_cli.methods.npo import NPO
from unlearn_cli.methods.scope import prepare
from unlearn_cli.models.forward import answer_logits, rows_at_once
from unlearn_cli.models.gpt_neox import GPTNeoX
from unlearn_cli.models.pretrained import Pretrained
from unlearn_cli.pipeline import run
from unlearn_cli.study import Study
from unlearn_cli.training.ranks import ALONE
from unlearn_cli.training.recipe import NoTraining, Train

TRIAL = Path(__file__).with_name("memory_trial.py")


def study(tmp_path, **changes):
    return Study.of(quick(tmp_path, **changes))


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A tiny checkpoint of another family, tied."""
    folder = tmp_path_factory.mktemp("llama")
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("tied", [False, True])
def test_weights_are_counted_exactly(tmp_path, tied):
    made = study(tmp_path, model=GPTNeoX(hidden_size=32, heads=2, mlp_size=64, tied=tied))
    real = made.experiment.model.build(made.world.vocabulary.size, made.world.max_length, 0)
    found = footprint(made, "train")
    assert found.weights == found.gradients == 4 * sum(p.numel() for p in real.parameters())


def test_optimizers_keep_two_numbers_or_one(tmp_path):
    """One block: query_key_value 32x96, dense 32x32, two MLP matrices 32x64: 8192 numbers in matrices."""
    recipe = quick(tmp_path).train
    shape = GPTNeoX(hidden_size=32, heads=2, mlp_size=64, layers=1)
    muon = footprint(study(tmp_path, model=shape), "train")
    adamw = footprint(study(tmp_path, model=shape, train=replace(recipe, optimizer="adamw")), "train")
    assert adamw.optimizer == 2 * adamw.weights
    assert adamw.optimizer - muon.optimizer == 4 * (32 * 96 + 32 * 32 + 2 * 32 * 64)


@pytest.mark.parametrize("scope, rank", [("all", 0), ("mlp", 0), ("all", 4), ("attention", 2)])
def test_only_what_is_trained_has_gradients(tmp_path, scope, rank):
    method = NPO(scope=scope, adapter=Adapter(rank=rank))
    made = study(tmp_path, method=method)
    real = made.experiment.model.build(made.world.vocabulary.size, made.world.max_length, 0)
    trained = prepare(real, scope, method.adapter, 0)
    count = sum(p.numel() for p in trained.parameters() if p.requires_grad)
    found = footprint(made, "edit")
    assert (found.gradients, found.optimizer) == (4 * count, 8 * count)
    assert found.weights == 4 * sum(p.numel() for p in trained.parameters())


def test_frozen_copies(tmp_path):
    plain, kl = (footprint(study(tmp_path, method=method), "edit") for method in (NPO(retain_loss="nll"), _graddiff()))
    assert plain.copies == plain.weights and kl.copies == 0


def _graddiff():
    from unlearn_cli.methods.graddiff import GradDiff

    return GradDiff()


def test_a_checkpoint_of_another_family(tmp_path, llama):
    real = sum(p.numel() for p in LlamaForCausalLM.from_pretrained(llama).parameters())
    wide = Pretrained(path=str(llama))
    found = {
        name: footprint(study(tmp_path, model=model, train=NoTraining()), "edit")
        for name, model in {
            "float32": wide,
            "bfloat16": replace(wide, dtype="bfloat16"),
            "again": replace(wide, gradient_checkpointing=True),
        }.items()
    }
    assert found["float32"].weights == 4 * real and found["bfloat16"].weights == 2 * real
    assert found["again"].step < found["float32"].step


def test_stages_without_an_estimate(tmp_path, llama):
    from unlearn_cli.methods.noop import Noop

    assert footprint(study(tmp_path, method=Noop()), "edit") is None
    assert footprint(study(tmp_path), "predict") is None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["train", "edit"])
@pytest.mark.parametrize("hidden, layers", [(192, 3), (384, 4)])
def test_the_estimate_is_within_half_of_what_is_measured(kind, hidden, layers):
    told = _trial(kind, hidden, layers)
    assert 1 / 1.5 < told["expected"] / told["measured"] < 1.5


@pytest.mark.slow
def test_real_exhaustion_is_one_sentence_with_what_would_fit():
    error = _trial("train", 2048, 12, 1.0)
    assert (error["stage"], error["type"]) == ("train", "UnlearnError")
    assert error["message"].startswith("train: out of memory (")
    assert "GiB are needed (weights 2.3 GiB" in error["message"] and "train.batch_size=1" in error["message"]


def test_an_error_of_memory_ends_a_run_as_such(tmp_path, monkeypatch):
    """Of a stage that has no estimate, numpy's own."""

    def exhausted(*_):
        raise MemoryError("Unable to allocate 9 TiB")

    monkeypatch.setattr("unlearn_cli.predict.predict", exhausted)
    result = run(quick(tmp_path), tmp_path / "run")
    assert result.error["type"] == "UnlearnError" and result.error["stage"] == "evaluate"
    assert result.error["message"].startswith("predict: out of memory (Unable to allocate 9 TiB)")
    assert "evaluate.batch_size=128" in result.error["message"]


@pytest.mark.parametrize(
    "error, exhausted",
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), True),
        (MemoryError(), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_exhaustion(error, exhausted):
    assert memory.is_exhausted(error) is exhausted
    outer = RuntimeError("while editing")
    outer.__cause__ = error
    assert memory.is_exhausted(outer) is exhausted


def test_other_errors_pass_as_they_are(tmp_path):
    made = study(tmp_path)
    for error in (KeyError("x"), UnlearnError("said")):
        with pytest.raises(type(error)) as caught, explained(made, "edit"):
            raise error
        assert caught.value is error


def test_each_proposed_setting_fits(tmp_path, llama):
    method = NPO(forget_batch=16, retain_batch=64, retain_loss="kl")
    made = study(tmp_path, model=Pretrained(path=str(llama)), train=NoTraining(), method=method)
    whole = footprint(made, "edit")
    free = whole.total - whole.step // 2
    said = advice(made, "edit", free)
    assert said.startswith("settings that fit: ") and "model.dtype=bfloat16" in said
    batch = next(word for word in said.split(" | ") if "retain_batch" in word)
    forget, retain = (int(word.partition("=")[2]) for word in batch.split(": ")[-1].split()[:2])
    smaller = replace(made.experiment, method=replace(method, forget_batch=forget, retain_batch=retain))
    assert footprint(replace(made, experiment=smaller), "edit").total <= free
    twice = replace(made.experiment, method=replace(method, forget_batch=2 * forget, retain_batch=2 * retain))
    assert footprint(replace(made, experiment=twice), "edit").total > free


def test_settings_that_fit_only_together(tmp_path, llama):
    made = study(tmp_path, model=Pretrained(path=str(llama)), train=NoTraining(), method=NPO(retain_batch=64))
    small = Pretrained(path=str(llama), dtype="bfloat16", gradient_checkpointing=True)
    method = NPO(forget_batch=1, retain_batch=1, adapter=Adapter(rank=8))
    least = footprint(replace(made, experiment=replace(made.experiment, model=small, method=method)), "edit").total
    said = advice(made, "edit", least)
    assert said.startswith("settings that fit together: ") and "model.dtype=bfloat16 method.adapter.rank=8" in said
    assert advice(made, "edit", 0).startswith("least memory with ")


def test_a_mask_is_not_told_to_take_an_adapter(tmp_path):
    made = study(tmp_path, method=NPO(mask=Mask(kind="salun")))
    assert "adapter" not in advice(made, "edit", 0)


def test_a_large_stage_is_announced_and_a_small_one_is_not(tmp_path, monkeypatch, caplog):
    made, runtime = study(tmp_path), SimpleNamespace(stage="train", crew=ALONE)
    total = footprint(made, "train").total
    with caplog.at_level(logging.INFO):
        for free in (100 * total, 3 * total, total // 2):
            monkeypatch.setattr(headroom, "available", lambda *_, free=free: free)
            announce(made, runtime)
    info, warning = caplog.records
    assert (info.levelname, warning.levelname) == ("INFO", "WARNING")
    assert info.getMessage().startswith("train: about ") and "weights" in info.getMessage()
    assert "it may fail; " in warning.getMessage() and "train.batch_size=" in warning.getMessage()


def test_base_and_gold_are_trained_together_only_where_two_fit(tmp_path, monkeypatch, caplog):
    asked = study(tmp_path)
    needed = footprint(asked, "train").total
    for free, together in ((2 * needed, True), (2 * needed - 1, False), (None, True)):
        monkeypatch.setattr(headroom, "available", lambda *_, free=free: free)
        with caplog.at_level(logging.INFO, logger="unlearn_cli.headroom"):
            caplog.clear()
            assert headroom.room_for_two(asked) == together
        assert ("one after the other" in caplog.text) == (not together)


def test_a_containers_limit_counts(tmp_path):
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 200\n")
    group = (tmp_path / "memory.max", tmp_path / "memory.current", "inactive_file")
    assert memory._of_group(group) == 500
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._of_group(group) is None


def test_what_is_free_is_what_the_system_says():
    said = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable"))
    assert 0 < memory.available("cpu") <= 1.5 * 1024 * int(said.split()[1])
    assert memory.available("mps") is None


@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_gradient_checkpointing_gives_the_same_gradients(tmp_path, llama, family):
    folder = llama
    if family == "gpt_neox":
        folder = tmp_path
        shape = GPTNeoX(hidden_size=32, heads=2, mlp_size=64, layers=3)
        shape.build(300, 64, 0).save_pretrained(folder)
    gradients, kept = [], []
    for again in (False, True):
        model = Pretrained(path=str(folder), gradient_checkpointing=again).build(300, 20, 0).train()
        ids = torch.arange(60).reshape(4, 15)
        size = _kept_bytes(lambda m=model, i=ids: answer_logits(m, i, torch.tensor([9, 13])).square().sum().backward())
        gradients.append([p.grad for p in model.parameters()])
        kept.append(size)
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert kept[1] < kept[0] / 2


def _kept_bytes(work):
    """Bytes that autograd keeps of a forward pass, by its own hooks."""
    sizes = {}

    def keep(tensor):
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        work()
    return sum(sizes.values())


def test_how_activations_are_kept_and_where_blocks_lie_is_no_part_of_a_digest(tmp_path, llama):
    from unlearn_cli.stages import base_stage

    ways = ({}, {"gradient_checkpointing": True}, {"device_map": "auto"})
    models = [Pretrained(path=str(llama), **fields) for fields in ways]
    stages = [base_stage(study(tmp_path, train=NoTraining(), model=model)) for model in models]
    assert stages[0].digest == stages[1].digest == stages[2].digest


def test_passes_without_gradients_stay_within_two_gib():
    """A row of 100 tokens of a model with 50000 tokens makes logits everywhere: 40 MB; GPT-NeoX at its answer alone."""
    llama = SimpleNamespace(config=LlamaConfig(vocab_size=50000, hidden_size=96, num_attention_heads=8))
    assert rows_at_once(llama, 100, 1, 1024) == 2**31 // (4 * (100 * 24 * 96 + 2 * 100 * 50000))
    config = GPTNeoXConfig(vocab_size=50000, hidden_size=96, num_attention_heads=8)
    neox = type("GPTNeoXForCausalLM", (), {"config": config})()
    assert rows_at_once(neox, 100, 1, 1024) == 1024


def _trial(*words):
    command = [sys.executable, str(TRIAL), *map(str, words)]
    told = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=True)
    return json.loads(told.stdout.splitlines()[-1])


def test_blocks_on_several_devices_make_logits_wherever_a_row_has_an_answer(tmp_path, monkeypatch):
    """GPT-NeoX loses its shortcut there, so that the last block keeps its activations, too."""
    made = study(tmp_path, train=Train(batch_size=32, min_recall=0.0))
    here = footprint(made, "train")
    monkeypatch.setattr(Numerics, "places", ["cpu", "cpu"])
    assert footprint(made, "train").step > here.step and footprint(made, "train").weights == here.weights


def test_a_batch_that_is_given_is_what_is_halved(tmp_path):
    made = study(tmp_path, train=Train(batch_size=32, min_recall=0.0))
    needed = footprint(made, "train")
    assert "train.batch_size=16 (" in advice(made, "train", needed.total - 1)
