"""A hypernetwork as an editor: its limit at initialisation, its functional forward, and the stage that trains it."""

import copy
import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from experiments import quick
from torch.func import functional_call
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from unlearn_cli.edits.remap import Remap
from unlearn_cli.errors import UnlearnError
from unlearn_cli.experiment import Gold, Retain
from unlearn_cli.machine import Numerics
from unlearn_cli.methods.base import EditContext, EditData
from unlearn_cli.methods.ft import FT
from unlearn_cli.methods.hypernet import Factors, Hypernet, Moments, edited, matrices, read_factors
from unlearn_cli.methods.hypernet_editing import ENOUGH, SCALES
from unlearn_cli.methods.loss import AnswerBatch
from unlearn_cli.methods.mend import MEND, HypernetTraining
from unlearn_cli.models.gpt_neox import GPTNeoX
from unlearn_cli.pipeline import describe, run
from unlearn_cli.results import Result
from unlearn_cli.stages import edit_stage, prepare_stage
from unlearn_cli.study import Study
from unlearn_cli.training.fit import read_answers
from unlearn_cli.training.loop import Runtime
from unlearn_cli.worlds.facts import REFUSAL
from unlearn_cli.worlds.tabular import Tabular

CPU, DEVICE = Numerics("cpu", 1, 1, "fp32"), torch.device("cpu")
WORLD = Tabular(subjects=40, relations=3, objects=6, holdout_subjects=2, object_tokens=2).build(0)
ASKED = WORLD.language.asked
ARCHITECTURES = ["neox", "neox_parallel_tied", "llama", "gpt2"]
SHORT = HypernetTraining(rank=16, steps=3, edits=2, at_once=2, others=8)


def network(kind, world=WORLD):
    size = world.vocabulary.size
    shape = {"vocab_size": size, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "llama":
            return LlamaForCausalLM(LlamaConfig(**shape, intermediate_size=64, initializer_range=0.2)).eval()
        if kind == "gpt2":
            config = GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=2, initializer_range=0.2)
            return GPT2LMHeadModel(config).eval()
    tied = kind == "neox_parallel_tied"
    model = GPTNeoX(hidden_size=32, heads=2, mlp_size=64, parallel_residual=tied, tied=tied)
    return model.build(size, world.max_length, 0).eval()


def sentences(n=4, world=WORLD):
    """n facts, each in a template of its own."""
    return world.sentences(np.arange(n), world.language.asked[np.arange(n) % len(world.language.asked)])


def nll(model, rows):
    return -AnswerBatch(*read_answers(model, rows, DEVICE)).logps.sum()


def hypernet(found, lr=1e-2):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Hypernet(found, rank=8, depth=1, edit_lr=lr)


def stirred(net):
    """The same away from its initialisation."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(2)
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return net


def as_weight(module, delta):
    """[out, in] as the module stores it."""
    return delta.T if type(module).__name__ == "Conv1D" else delta


# --- factors


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_factors_add_up_to_the_gradient(kind):
    model, rows = network(kind).double(), sentences()
    found = matrices(model, "blocks")
    factors = read_factors(model.requires_grad_(False), found, rows, 1)
    model.requires_grad_(True)
    expected = torch.autograd.grad(nll(model, rows), [module.weight for module in found.values()])
    assert len(found) == {"llama": 14}.get(kind, 8)
    for (name, module), gradient in zip(found.items(), expected, strict=True):
        torch.testing.assert_close(as_weight(module, factors[name].delta[0]), gradient, atol=1e-9, rtol=1e-6)


def test_factors_of_groups_are_those_of_each_alone():
    model = network("neox").double()
    found = matrices(model, "mlp")
    both, alone = (read_factors(model, found, sentences(n), groups) for n, groups in ((4, 2), (2, 1)))
    for name in found:
        torch.testing.assert_close(both[name].delta[:1], alone[name].delta, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_the_patched_forward_is_that_of_patched_weights(kind):
    model, rows = network(kind).double().requires_grad_(False), sentences()
    found = matrices(model, "blocks")
    net = stirred(hypernet(found)).double().train()
    factors = net(read_factors(model, found, rows, 2))
    with edited(found, factors):
        patched = read_answers(model, rows, DEVICE)[0]
    assert not torch.allclose(patched, read_answers(model, rows, DEVICE)[0], atol=1e-3)
    ids = torch.from_numpy(rows.through_answer)[:, :-1]
    places = torch.from_numpy(rows.positions - 1)[..., None].expand(-1, -1, patched.shape[-1])
    for group in range(2):
        weights = {
            f"{name}.weight": module.weight + as_weight(module, factors[name].delta[group])
            for name, module in found.items()
        }
        whole = functional_call(model, weights, kwargs={"input_ids": ids, "use_cache": False}).logits
        own = slice(2 * group, 2 * group + 2)
        torch.testing.assert_close(patched[own], whole.gather(1, places)[own], atol=1e-8, rtol=1e-6)


# --- the hypernetwork


def test_at_first_an_edit_is_a_step_along_the_normalised_gradient():
    model, rows = network("neox").double(), sentences()
    found = matrices(model, "mlp")
    net = hypernet(found, lr=0.25).double().train()
    raw = read_factors(model, found, rows, 2)
    for name, edit in net(raw).items():
        u, delta = raw[name].inputs, raw[name].outputs
        real = (delta != 0).any(-1)
        normal = [(x - x[real].mean(0)) / (x[real].std(0) + 1e-7) * real[..., None] for x in (u, delta)]
        torch.testing.assert_close(edit.delta, -0.25 * torch.einsum("gto,gti->goi", normal[1], normal[0]))


def test_moments_are_those_of_all_tokens_and_stand_still_outside_of_training():
    stream = torch.Generator().manual_seed(0)
    every = [3 + 2 * torch.randn(2, n, 5, generator=stream, dtype=torch.float64) for n in (1, 4, 7)]
    moments = Moments(5).double().train()
    for x in every:
        moments(x, torch.ones(x.shape[:2], dtype=torch.bool))
    moments(100 * every[0], torch.zeros(2, 1, dtype=torch.bool))  # no real token
    seen = torch.cat([x.flatten(0, 1) for x in every])
    moments.eval()
    torch.testing.assert_close(moments(seen[None], torch.ones(1, 24, dtype=torch.bool))[0], _z(seen))
    assert int(moments.count) == 24


def _z(x):
    return (x - x.mean(0)) / (x.std(0) + 1e-7)


def test_tokens_without_gradient_do_not_edit():
    model = network("neox")
    found = matrices(model, "mlp")
    net = stirred(hypernet(found)).train()
    raw = read_factors(model, found, sentences(2), 1)
    net(raw)
    padded = {
        name: Factors(
            torch.nn.functional.pad(f.inputs, (0, 0, 0, 3), value=5.0),
            torch.nn.functional.pad(f.outputs, (0, 0, 0, 3)),
        )
        for name, f in raw.items()
    }
    net.eval()
    plain = net(raw)
    for name, edit in net(padded).items():
        torch.testing.assert_close(edit.delta, plain[name].delta)


def test_matrices_of_a_shape_share_a_network_but_not_their_scales():
    found = matrices(network("neox"), "mlp")
    net = hypernet(found)
    assert set(net.nets) == {"64x32", "32x64"} and len(net.log_lr) == len(found) == 4
    assert net.nets["64x32"][0].scale.shape == (2, 96)


def test_the_meta_gradient_is_that_of_finite_differences():
    """Through the patched forward into the hypernetwork; the factors are constants."""
    model, rows = network("neox").double().requires_grad_(False), sentences()
    found = matrices(model, "mlp")
    net = stirred(hypernet(found)).double().train()
    raw = read_factors(model, found, rows, 2)
    net(raw)
    net.eval()
    parameters = list(net.parameters())

    def loss():
        with edited(found, net(raw)):
            return nll(model, rows)

    gradients = torch.autograd.grad(loss(), parameters)
    stream = torch.Generator().manual_seed(3)
    ways = [torch.randn(p.shape, generator=stream, dtype=p.dtype) for p in parameters]
    slope = sum(float((g * way).sum()) for g, way in zip(gradients, ways, strict=True))
    sides = []
    for step in (1e-6, -2e-6):
        with torch.no_grad():
            for parameter, way in zip(parameters, ways, strict=True):
                parameter += step * way
        sides.append(float(loss().detach()))
    assert abs(slope) > 1e-3 and (sides[0] - sides[1]) / 2e-6 == pytest.approx(slope, rel=1e-4)


# --- whole edits


@cache
def trained():
    """A model that knows the facts; shared, so copied before it is changed."""
    model, facts = network("neox"), WORLD.only(np.arange(114))
    learn = FT(steps=200, lr=5e-3, scope="all", stop_loss=0.05, retain_loss="none")
    learn.edit(model, EditData(facts, facts.facts.object, None), EditContext(Runtime("edit", CPU), 0))
    return model


def prepare(method, model, folder, facts=slice(30, 114), seed=0):
    data = EditData(None, None, WORLD.only(np.arange(114)[facts]), WORLD.language)
    runtime = Runtime("prepare", CPU)
    folder.mkdir(exist_ok=True)
    return method.prepare(model, data, EditContext(runtime, seed, folder)), runtime.curves


def edit(method, model, folder, facts, target):
    edited_model = copy.deepcopy(model)
    data = EditData(WORLD.only(facts), target, None, WORLD.language, prepared=folder)
    method.edit(edited_model, data, EditContext(Runtime("edit", CPU), 0))
    return edited_model


def success(model, facts, objects):
    each, templates = np.repeat(facts, len(ASKED)), np.tile(ASKED, len(facts))
    logits, labels = read_answers(model, WORLD.sentences(each, templates, np.repeat(objects, len(ASKED))), DEVICE)
    return float((logits.argmax(-1) == labels).all(-1).float().mean())


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    method = MEND(
        editor=HypernetTraining(rank=64, steps=250, lr=3e-3, edits=8, at_once=1, others=64, edit_lr=1e-3, c_edit=1.0)
    )
    before = copy.deepcopy(trained().state_dict())
    report, curves = prepare(method, trained(), folder)
    return method, folder, report, curves, before


def test_training_leaves_the_base_alone_and_lowers_its_loss(prepared):
    _, _, report, curves, before = prepared
    after = trained().state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    losses = [row["loss"] for row in curves]
    assert np.mean(losses[-50:]) < 0.5 * np.mean(losses[:50])
    assert report.steps == 250 and report.trainable_parameters > 0 and report.backward_tokens > 0


def test_facts_it_was_not_trained_on_are_edited_and_others_kept(prepared):
    method, folder, *_ = prepared
    written, kept = [], []
    for fact in range(0, 30, 3):
        facts = np.array([fact])
        target, rest = (
            (WORLD.facts.object[facts] + 2) % 6,
            np.setdiff1d(np.arange(0, 30), fact - fact % 3 + np.arange(3)),
        )
        model = edit(method, trained(), folder, facts, target)
        written.append(success(model, facts, target))
        kept.append(success(model, rest, WORLD.facts.object[rest]))
    assert np.mean(written) > 0.7
    assert np.mean(kept) > 0.75 * success(trained(), np.arange(30), WORLD.facts.object[:30])


def test_without_targets_the_refusal_is_written(prepared):
    method, folder, *_ = prepared
    refused = []
    for fact in range(0, 30, 3):
        facts = np.array([fact])
        refused.append(success(edit(method, trained(), folder, facts, None), facts, np.array([REFUSAL])))
    assert np.mean(refused) > 0.6
    assert "refusal" in method.note("forget") and "refusal" not in method.note("remap")


def test_an_edit_changes_the_matrices_in_scope_by_no_more_rank_than_there_are_tokens(tmp_path):
    model, facts = network("neox"), np.array([5])
    method = MEND(contexts=1, editor=SHORT)
    prepare(method, model, tmp_path)
    after = edit(method, model, tmp_path, facts, np.array([1])).state_dict()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, after[name])}
    assert changed == {f"{name}.weight" for name in matrices(model, "mlp")}
    tokens = int(WORLD.sentences(facts, ASKED[:1]).answer_start[0]) + 1
    for name in changed:
        rank = int(torch.linalg.matrix_rank((after[name] - model.state_dict()[name]).double(), rtol=1e-4))
        assert 1 <= rank <= (tokens if ".0." in name else 2)  # the last block has gradient at the answer only


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_every_architecture_is_trained_and_edited(kind, tmp_path):
    model = network(kind)
    method = MEND(editor=SHORT)
    prepare(method, model, tmp_path)
    facts, target = np.array([0, 7]), np.array([1, 2])
    once = edit(replace(method, scale=1.0), model, tmp_path, facts, target)
    twice = edit(replace(method, scale=2.0), model, tmp_path, facts, target)
    for name, module in matrices(model, "mlp").items():
        first, second = (net.get_submodule(name).weight - module.weight for net in (once, twice))
        assert float(first.detach().abs().max()) > 0
        torch.testing.assert_close(2 * first, second, atol=1e-5, rtol=1e-3)


def test_the_least_scale_that_writes_all_targets_is_taken(prepared):
    method, folder, *_ = prepared
    written = {}
    for scale in (None, *SCALES):
        facts = np.array([6])
        model = edit(replace(method, scale=scale), trained(), folder, facts, (WORLD.facts.object[facts] + 2) % 6)
        written[scale] = success(model, facts, (WORLD.facts.object[facts] + 2) % 6), model.state_dict()
    least = next(scale for scale in SCALES if written[scale][0] >= ENOUGH)
    assert least > SCALES[0]
    assert all(torch.equal(tensor, written[least][1][name]) for name, tensor in written[None][1].items())


def test_same_seed_same_bits(tmp_path):
    model, files = network("neox"), []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        prepare(MEND(editor=SHORT), model, tmp_path / name, seed=seed)
        files.append((tmp_path / name / "editor.safetensors").read_bytes())
    assert files[0] == files[1] != files[2]


def test_a_pool_that_is_too_small_is_told(tmp_path):
    with pytest.raises(UnlearnError, match="the retain pool has one fact"):
        prepare(MEND(editor=SHORT), network("neox"), tmp_path, facts=slice(0, 1))


def test_at_most_half_of_the_pool_is_edited_together(tmp_path):
    prepare(MEND(editor=replace(SHORT, edits=4, at_once=4)), network("neox"), tmp_path, facts=slice(0, 3))
    assert (tmp_path / "editor.safetensors").exists()


# --- the stage


def experiment(folder, method, **changes):
    edit = Remap(n=2, distinct=False)
    return quick(folder, **({"edit": edit, "method": method, "gold": Gold(n=0), "retain": Retain(pool=0.5)} | changes))


def test_another_setting_of_the_edit_finds_the_editor_in_the_cache(tmp_path):
    method = MEND(editor=SHORT, scale=1.0)
    first = run(experiment(tmp_path, method))
    assert first.status == "ok", first.error
    assert Result.read(first.run_dir / "result.json").stages["prepare"]["cached"] is False
    weaker = run(experiment(tmp_path, replace(method, scale=0.5)))
    cached = {name: stage["cached"] for name, stage in weaker.stages.items()}
    assert cached == {"train": True, "prepare": True, "edit": False, "evaluate": False}
    longer = run(experiment(tmp_path, replace(method, editor=replace(SHORT, steps=4))))
    assert not longer.stages["prepare"]["cached"]
    again = run(experiment(tmp_path / "elsewhere", method))
    files = [(result.run_dir / "edited" / "model.safetensors").read_bytes() for result in (first, again, weaker)]
    assert files[0] == files[1] != files[2]
    lines = describe(experiment(tmp_path, method))
    assert [line.split()[0] for line in lines][:3] == ["train", "prepare", "edit"]
    assert all("  hit   " in line for line in lines)
    manifest = json.loads((tmp_path / "cache" / "prepare").glob("*/done.json").__next__().read_text())
    assert manifest["extra"]["cost"]["steps"] in (3, 4)


def test_the_editor_depends_on_the_facts_that_are_left_and_not_on_what_is_asked_of_the_others(tmp_path):
    study = Study.of(experiment(tmp_path, MEND(editor=SHORT)))
    request = study.request
    other = replace(study, request=replace(request, new_object=(request.new_object + 1) % 5))
    assert prepare_stage(study).digest == prepare_stage(other).digest
    assert edit_stage(study).digest != edit_stage(other).digest
    elsewhere = replace(study, request=replace(request, facts=request.facts + 2))
    assert prepare_stage(study).digest != prepare_stage(elsewhere).digest
    table = study.retain_data().retain.facts
    pairs = set(zip(table.subject.tolist(), table.relation.tolist(), strict=True))
    facts = study.world.facts
    assert not pairs & {(int(facts.subject[f]), int(facts.relation[f])) for f in request.facts}
    assert study.retain_data().forget is None and study.retain_data().target is None
    assert prepare_stage(Study.of(quick(tmp_path))) is None


@pytest.mark.parametrize("schedule", ["sequential", "independent"])
def test_requests_one_by_one_share_an_editor(tmp_path, schedule):
    asked = Remap(n=2, distinct=False, schedule=schedule)
    result = run(experiment(tmp_path, MEND(editor=SHORT), edit=asked))
    assert result.status == "ok", result.error
    assert len(list((tmp_path / "cache" / "prepare").glob("*/done.json"))) == 1
