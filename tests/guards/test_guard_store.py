"""Every guard that a method ships: the same answers after a round trip through disk, over a base that stays put."""

from __future__ import annotations

import copy
import json
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
import yaml
from experiments import quick
from omegaconf import OmegaConf
from transformers import AutoModelForCausalLM

from unlearn_cli import guards
from unlearn_cli.cli import config_dir
from unlearn_cli.command import parse
from unlearn_cli.composition import Composer
from unlearn_cli.edits.forget import Forget
from unlearn_cli.errors import ConfigError, UnlearnError
from unlearn_cli.experiment import Gold, parts
from unlearn_cli.guards import store
from unlearn_cli.guards.base import Guard, Guarded
from unlearn_cli.guards.network import made
from unlearn_cli.guards.whp import GenericPredictions
from unlearn_cli.machine import Numerics
from unlearn_cli.methods.base import EditContext, EditData
from unlearn_cli.methods.ft import FT
from unlearn_cli.methods.guarding import GuardMethod
from unlearn_cli.methods.uld import ULD
from unlearn_cli.methods.whp import Reinforcement
from unlearn_cli.methods.whp_logits import WHPLogits
from unlearn_cli.models import checkpoint
from unlearn_cli.models.forward import answer_logits
from unlearn_cli.models.gpt_neox import GPTNeoX
from unlearn_cli.pipeline import run
from unlearn_cli.predict import load as load_predictions
from unlearn_cli.predict import predict
from unlearn_cli.streams import derive
from unlearn_cli.study import Study
from unlearn_cli.training.loop import Runtime
from unlearn_cli.worlds.grammar import Grammar
from unlearn_cli.worlds.tabular import Tabular

GRAMMAR = Grammar(templates=2, heldout=1, fillers=2)
WORLD = Tabular(subjects=22, relations=2, objects=6, holdout_subjects=2, object_tokens=2, grammar=GRAMMAR).build(0)
FORGET, RETAIN = np.arange(0, 10, 2), np.arange(12, 40)
CPU = Numerics("cpu", 1, 1, "fp32")


def is_guard_method(name):
    target = yaml.safe_load((config_dir() / "method" / f"{name}.yaml").read_text()).get("_target_", "")
    module, _, kind = target.rpartition(".")
    return bool(module) and issubclass(getattr(import_module(module), kind), GuardMethod)


NAMES = sorted(path.stem for path in (config_dir() / "method").glob("[!_]*.yaml"))
METHODS = [name for name in NAMES if is_guard_method(name)]


@cache
def base():
    """Trained on every fact, and read from disk as a base is; nothing may change it."""
    model = GPTNeoX(hidden_size=32, heads=2, mlp_size=64).build(WORLD.vocabulary.size, WORLD.max_length, 0)
    learn = FT(steps=400, lr=1e-2, retain_loss="none", stop_loss=0.01)
    learn.edit(model, EditData(WORLD, None, None), EditContext(Runtime("train", CPU), 0))
    with TemporaryDirectory() as folder:
        checkpoint.save(model, WORLD.vocabulary, Path(folder))
        return checkpoint.load(Path(folder))


def shipped(name):
    values = Composer(parse([], config_dir())).compose([f"method={name}"])
    plain = OmegaConf.to_container(values, resolve=False)
    del plain["hydra"]
    return parts(OmegaConf.to_container(OmegaConf.create(plain), resolve=True))["method"]


@cache
def guarded(name):
    """What a shipped method makes."""
    method, model = shipped(name), copy.deepcopy(base())
    forget, retain = WORLD.only(FORGET), WORLD.only(RETAIN)
    data = EditData(
        forget if "forget" in method.needs else None, None, retain if "retain" in method.needs else None, WORLD.language
    )
    report = method.edit(model, data, EditContext(Runtime("edit", CPU), 0))
    assert isinstance(report.guard, Guard)
    return Guarded(model, report.guard)


@pytest.fixture(params=METHODS)
def name(request):
    return request.param


@pytest.fixture
def saved(name, tmp_path):
    """A checkpoint with its guard, as an edit stage writes it."""
    made = guarded(name)
    checkpoint.save(made.model, WORLD.vocabulary, tmp_path)
    store.save(made.guard, tmp_path)
    return tmp_path


def questions(facts=None):
    """Rows through the answer, where its tokens are predicted, and the ends of the prompts."""
    facts = np.arange(len(WORLD.facts)) if facts is None else facts
    sentences = WORLD.sentences(facts, np.resize(WORLD.language.asked, len(facts)))
    rows, places = torch.from_numpy(sentences.through_answer), torch.from_numpy(sentences.positions - 1)
    return rows, places, places[:, 0]


@torch.no_grad()
def answers(model, rows, places, ends):
    return answer_logits(model, rows, places, ends)


def test_the_base_keeps_its_bits(name):
    made = guarded(name)
    tensors, before = made.model.state_dict(), base().state_dict()
    assert list(tensors) == list(before) and all(torch.equal(tensors[name], before[name]) for name in before)
    assert not made.model.training and not any(module.training for module in made.guard.modules())
    assert not any(p.requires_grad for p in made.guard.parameters())
    assert torch.equal(answers(made.model, *questions()), answers(base(), *questions())), "a hook was left behind"


def test_a_guard_changes_answers(name):
    assert not torch.equal(answers(guarded(name), *questions(FORGET)), answers(base(), *questions(FORGET)))


def test_the_same_logits_after_a_round_trip(name, saved):
    made, loaded = guarded(name), guards.load(saved)
    assert type(loaded.guard) is type(made.guard) and not loaded.training
    assert loaded.guard.config == json.loads(json.dumps(made.guard.config))
    assert torch.equal(answers(loaded, *questions()), answers(made, *questions()))
    prompts = torch.from_numpy(WORLD.sentences(FORGET, np.full(len(FORGET), WORLD.language.asked[0])).input_ids[:, :5])
    assert torch.equal(loaded.generate(prompts, 3), made.generate(prompts, 3))


def test_plain_transformers_reads_the_model_without_it(name, saved):
    plain = AutoModelForCausalLM.from_pretrained(saved).eval()
    assert torch.equal(answers(plain, *questions()), answers(base(), *questions()))
    assert "guards.load" in (saved / "README.md").read_text()
    assert sorted(path.name for path in (saved / "guard").iterdir()) == ["guard.json", "guard.safetensors"]


def test_a_row_is_answered_by_itself(name):
    """Neither the other rows of a batch nor what follows its prompt change how a prompt is answered."""
    made, (rows, places, ends) = guarded(name), questions()
    together = answers(made, rows, places, ends)
    for row in (0, 1, 11):
        alone = answers(made, rows[[row]], places[[row]], ends[[row]])
        torch.testing.assert_close(together[[row]], alone, atol=1e-4, rtol=1e-4)
    others = rows.clone()
    behind = torch.arange(rows.shape[1]) > ends[:, None]
    others[behind] = rows.flip(0)[behind]
    assert not torch.equal(others, rows)
    first = answers(made, others, ends[:, None], ends)
    torch.testing.assert_close(first, together[:, :1], atol=1e-4, rtol=1e-4)


def test_generation_takes_the_likeliest_token_each_time(name):
    made, facts = guarded(name), np.arange(12)
    sentences = WORLD.sentences(facts, np.full(12, WORLD.language.asked[0]))
    (start,) = set(sentences.answer_start.tolist())
    rows = torch.from_numpy(sentences.input_ids[:, :start])
    got = made.generate(rows, 2)
    ends = torch.full((12,), start - 1)
    for place in (start, start + 1):
        logits = answers(made, got[:, :place], torch.full((12, 1), place - 1), ends)
        assert torch.equal(got[:, place], logits[:, 0].argmax(-1))


@pytest.mark.parametrize(
    "kind", ["torch.nn.Linear", "os.system", "base.Guard", "base.Guarded", "whp.Tensor", "store.Path", "nothing.Guard"]
)
def test_a_folder_names_no_code_but_guards(kind, tmp_path):
    checkpoint.save(base(), WORLD.vocabulary, tmp_path)
    store.save(guarded("whp_logits").guard, tmp_path)
    path = tmp_path / "guard" / "guard.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"guard": kind}))
    with pytest.raises(UnlearnError, match=f"{kind} is no guard of unlearn_cli.guards"):
        guards.load(tmp_path)


def test_a_guard_that_could_not_be_loaded_is_not_saved(tmp_path):
    class Elsewhere(GenericPredictions):
        pass

    network = made(base().config.to_dict())
    with pytest.raises(UnlearnError, match="Elsewhere is no guard"):
        store.save(Elsewhere(network, 1.0, "logits"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_a_guard_is_told_from_one_with(tmp_path):
    checkpoint.save(base(), WORLD.vocabulary, tmp_path)
    with pytest.raises(UnlearnError, match="is a model without a guard"):
        guards.load(tmp_path)
    assert not isinstance(store.load_if_guarded(tmp_path), Guarded)


REVERSED = ULD(steps=10, retain_batch=8)
SERVED = WHPLogits(alpha=2.0, reinforce=Reinforcement(steps=5, lr=1e-3))


@pytest.mark.parametrize("method", [REVERSED, SERVED])
def test_a_run_is_about_the_guarded_model(method, tmp_path):
    result = run(quick(tmp_path, method=method))
    assert result.status == "ok", result.error
    edited = guards.load(result.run_dir / "edited")
    study = Study.of(quick(tmp_path, method=method))
    asked, base_asked = (
        predict(model, study.world, study.probes, 512) for model in (edited, checkpoint.load(result.run_dir / "base"))
    )
    assert not np.array_equal(asked.candidate_logps, base_asked.candidate_logps)
    split = study.probes.splits["forget"]
    assert result.metrics["fact_accuracy/forget"]["value"] == (asked.greedy[split.rows] == split.answer).mean()
    tensors = checkpoint.load(result.run_dir / "base").state_dict()
    assert all(torch.equal(value, tensors[name]) for name, value in edited.model.state_dict().items())
    assert result.metrics["weight_delta_norms/total"]["value"] == 0
    assert any("leaves the weights as they were" in note for note in result.notes)


def test_single_requests_have_guards_of_their_own(tmp_path):
    experiment = quick(tmp_path, method=SERVED, edit=Forget(n=2, schedule="independent"), gold=Gold(n=0))
    result, study = run(experiment), Study.of(experiment)
    assert result.status == "ok", result.error
    assert not (result.run_dir / "edited" / "guard").exists()
    stored = load_predictions(result.run_dir / "edited" / "predictions.npz")
    for number, request in enumerate(study.requests()):
        model = checkpoint.load(result.run_dir / "base")
        context = EditContext(Runtime("edit", study.numerics), derive(experiment.seed, "request", number))
        report = SERVED.edit(model, study.edit_data(request), context)
        rows = np.flatnonzero(study.probes.request == number)
        alone = predict(Guarded(model, report.guard), study.world, study.probes.only(rows), 512)
        np.testing.assert_allclose(stored.candidate_logps[rows], alone.candidate_logps, atol=1e-4)


@pytest.mark.parametrize("method", [REVERSED, SERVED])
def test_a_sequence_of_guards_is_refused(method, tmp_path):
    with pytest.raises(ConfigError, match=r"takes all facts at once: 'batch' or 'independent'"):
        quick(tmp_path, method=method, edit=Forget(n=2, schedule="sequential")).check()
