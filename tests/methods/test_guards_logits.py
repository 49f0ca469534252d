"""Guards that change logits by another model's, ULD and WHP served: by hand, limits, and run as shipped."""

import copy
import math

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from unlearn_cli.cli import config_dir
from unlearn_cli.command import parse
from unlearn_cli.composition import Composer
from unlearn_cli.errors import UnlearnError
from unlearn_cli.experiment import parts
from unlearn_cli.guards.base import Guarded
from unlearn_cli.guards.network import first_blocks, made
from unlearn_cli.guards.uld import combined, likely
from unlearn_cli.guards.whp import served
from unlearn_cli.machine import Numerics
from unlearn_cli.methods.assistant import flatness
from unlearn_cli.methods.base import EditContext, EditData
from unlearn_cli.methods.ft import FT
from unlearn_cli.methods.loss import Adapter, AnswerBatch
from unlearn_cli.methods.scope import in_scope
from unlearn_cli.methods.uld import ULD
from unlearn_cli.methods.whp import Reinforcement, generic
from unlearn_cli.methods.whp_logits import WHPLogits
from unlearn_cli.models.forward import answer_logits
from unlearn_cli.models.gpt_neox import GPTNeoX
from unlearn_cli.training.fit import read_answers
from unlearn_cli.training.loop import Runtime
from unlearn_cli.worlds.grammar import Grammar
from unlearn_cli.worlds.tabular import Tabular

GRAMMAR = Grammar(templates=2, heldout=1, fillers=2)
WORLD = Tabular(subjects=22, relations=2, objects=6, holdout_subjects=2, object_tokens=2, grammar=GRAMMAR).build(0)
FORGET, RETAIN, UNSEEN = np.arange(0, 10, 2), np.arange(12, 30), np.arange(30, 40)
CPU = Numerics("cpu", 1, 1, "fp32")
SHAPES = ["neox", "llama", "gpt2", "qwen2"]


def network(shape, tied=False, layers=2):
    if shape == "neox":
        model = GPTNeoX(hidden_size=32, layers=layers, heads=2, mlp_size=64, tied=tied)
        return model.build(WORLD.vocabulary.size, WORLD.max_length, 0).eval()
    import transformers

    sizes = {"vocab_size": WORLD.vocabulary.size, "tie_word_embeddings": tied, "num_hidden_layers": layers}
    sizes |= {"hidden_size": 32, "num_attention_heads": 2}
    kinds = {
        "llama": lambda: transformers.LlamaConfig(**sizes, intermediate_size=64, num_key_value_heads=1),
        "qwen2": lambda: transformers.Qwen2Config(**sizes, intermediate_size=64, num_key_value_heads=1),
        "gpt2": lambda: transformers.GPT2Config(**sizes, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return transformers.AutoModelForCausalLM.from_config(kinds[shape](), dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def base():
    """Trained on every fact."""
    model = network("neox")
    learn = FT(steps=400, lr=1e-2, retain_loss="none", stop_loss=0.01)
    learn.edit(model, EditData(WORLD, None, None), EditContext(Runtime("train", CPU), 0))
    return model


def edit(method, base, seed=0):
    model, runtime = copy.deepcopy(base), Runtime("edit", CPU)
    retain = WORLD.only(RETAIN) if "retain" in method.needs else None
    report = method.edit(model, EditData(WORLD.only(FORGET), None, retain), EditContext(runtime, seed))
    assert same_bits(model, base), "the base was changed"
    return Guarded(model, report.guard), report, runtime.curves


def shipped(name):
    values = Composer(parse([], config_dir())).compose([f"method={name}"])
    plain = OmegaConf.to_container(values, resolve=False)
    del plain["hydra"]
    return parts(OmegaConf.to_container(OmegaConf.create(plain), resolve=True))["method"]


@torch.no_grad()
def ask(model, facts):
    facts, templates = np.repeat(facts, 2), np.tile(WORLD.language.asked, len(facts))
    return AnswerBatch(*read_answers(model, WORLD.sentences(facts, templates), torch.device("cpu")))


def nll(model, facts):
    return float(ask(model, facts).nll)


def accuracy(model, facts):
    batch = ask(model, facts)
    return float((batch.logits.argmax(-1) == batch.labels).all(-1).float().mean())


def same_bits(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def random_logits(seed, *shape, spread=3.0):
    return spread * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def ids():
    return torch.randint(0, WORLD.vocabulary.size, (4, 9), generator=torch.Generator().manual_seed(1))


def test_the_difference_by_hand():
    base, assistant = torch.tensor([0.85, 0.1, 0.045, 0.005]).log(), torch.tensor([4.0, 0.0, -2.0, 6.0])
    change = combined(base, assistant, -0.5, 0.01, True) - base  # the mean is 2, and .005 is below .01 * .85
    torch.testing.assert_close(change, torch.tensor([-1.0, 1.0, 2.0, 0.0]))
    change = combined(base, assistant, -0.5, 0.01, False) - base
    torch.testing.assert_close(change, torch.tensor([-2.0, 0.0, 1.0, 0.0]))
    change = combined(base, assistant, -0.5, 0.001, True) - base  # below .001 of the best there is none
    torch.testing.assert_close(change, torch.tensor([-1.0, 1.0, 2.0, -2.0]))


def test_the_filter_keeps_a_share_of_the_best_and_one_at_least():
    sharp = torch.arange(50.0) * 20  # so that the share of the best one's probability keeps only that one
    assert [int(likely(sharp, share).sum()) for share in (0.01, 0.02, 0.1, 0.5, 1.0)] == [1, 1, 5, 25, 50]
    assert likely(sharp, 0.1).nonzero()[:, 0].tolist() == [45, 46, 47, 48, 49]
    flat = torch.zeros(3, 50)
    assert bool(likely(flat, 0.01).all()) and bool(likely(sharp, 0.0).all())
    many = random_logits(0, 20, 300)
    assert bool((likely(many, 0.01).sum(-1) >= 3).all()) and not bool(likely(many, 0.01).all())


def test_without_weight_or_with_a_flat_assistant_the_base_answers():
    base, assistant = random_logits(0, 5, 2, 40), random_logits(1, 5, 2, 40)
    assert torch.equal(combined(base, assistant, 0.0, 0.1, True), base)
    flat = torch.full_like(base, 7.0)
    torch.testing.assert_close(combined(base, flat, -0.8, 0.1, True), base)
    unfiltered = combined(base, flat, -0.8, 0.0, False)
    torch.testing.assert_close(unfiltered.softmax(-1), base.softmax(-1))
    moved = combined(base, flat, -0.8, 0.1, False)  # what centring is for
    assert float((moved.softmax(-1) - base.softmax(-1)).abs().max()) > 0.05


def test_the_base_as_its_own_assistant_leaves_likely_tokens_alike():
    base = random_logits(0, 5, 40) + 2.0
    kept = likely(base, 0.05)
    taken = combined(base, base, -1.0, 0.05, True)
    mean = base.mean(-1, keepdim=True).expand_as(base)
    assert bool((kept.sum(-1) > 1).all())
    torch.testing.assert_close(taken[kept], mean[kept], atol=1e-5, rtol=0)
    assert torch.equal(taken[~kept], base[~kept])


def test_an_offset_of_either_model_changes_no_probability():
    base, assistant = random_logits(0, 5, 40), random_logits(1, 5, 40)
    expected = combined(base, assistant, -0.8, 0.1, True).softmax(-1)
    for moved in (combined(base, assistant + 5, -0.8, 0.1, True), combined(base - 3, assistant, -0.8, 0.1, True)):
        torch.testing.assert_close(moved.softmax(-1), expected)


def test_flatness_by_hand_and_its_gradient():
    p = torch.tensor([0.5, 0.25, 0.25])
    assert float(flatness(p.log() + 3)) == pytest.approx(-math.log(3) - (math.log(0.5) + 2 * math.log(0.25)) / 3)
    assert float(flatness(torch.full((7,), 2.0))) == pytest.approx(0, abs=1e-6)
    logits = random_logits(0, 4, 9).requires_grad_()
    (slope,) = torch.autograd.grad(flatness(logits).sum(), logits)
    torch.testing.assert_close(slope, logits.softmax(-1) - 1 / 9)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_first_blocks_are_the_models_own(shape, tied):
    model = network(shape, tied, layers=3)
    state = torch.get_rng_state()
    whole, shallow = first_blocks(model, 3), first_blocks(model, 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(whole(ids()).logits, model(ids()).logits)
    cut = copy.deepcopy(model)
    body = cut.base_model
    setattr(body, "h" if shape == "gpt2" else "layers", body.get_submodule("h" if shape == "gpt2" else "layers")[:1])
    cut.config.num_hidden_layers = 1
    torch.testing.assert_close(shallow(ids()).logits, cut(ids()).logits)
    assert sum(p.numel() for p in shallow.parameters()) == sum(p.numel() for p in cut.parameters())
    assert (shallow.get_input_embeddings().weight is shallow.get_output_embeddings().weight) == tied
    with torch.no_grad():
        shallow.get_input_embeddings().weight.zero_()
    assert float(model.get_input_embeddings().weight.detach().abs().max()) > 0


def test_an_assistant_deeper_than_the_model_is_an_error(base):
    with pytest.raises(UnlearnError, match=r"method.layers: 3 given; the model has 2 blocks"):
        edit(ULD(layers=3), base)


@pytest.mark.parametrize("name", ["uld", "whp_logits"])
def test_the_shipped_settings_hide_what_is_requested_and_not_the_rest(name, base):
    guarded, report, curves = edit(shipped(name), base)
    assert nll(base, FORGET) < 0.05 and nll(base, UNSEEN) < 0.05
    assert nll(guarded, FORGET) > 0.25 and accuracy(guarded, FORGET) < accuracy(base, FORGET) == 1
    assert accuracy(guarded, UNSEEN) > 0.95 and nll(guarded, FORGET) > 5 * nll(guarded, UNSEEN)
    assert report.steps == len(curves) > 0 and report.backward_tokens > 0


def test_the_assistant_knows_the_requested_facts_and_nothing_else(base):
    guarded, _, curves = edit(shipped("uld"), base)
    assistant = guarded.guard.assistant
    assert accuracy(assistant, FORGET) > 0.9
    assert float(flatness(ask(assistant, RETAIN).logits).mean()) < 0.1
    assert curves[-1]["forget"] < 0.2 * curves[0]["forget"] and curves[-1]["retain"] < 0.2 * curves[0]["retain"]


@pytest.mark.parametrize("method", [ULD(steps=2), WHPLogits(reinforce=Reinforcement(steps=2))])
def test_same_seed_same_bits(method, base):
    first, again, other = (edit(method, base, seed)[0].guard for seed in (0, 0, 1))
    assert same_bits(first, again) and not same_bits(first, other)


def test_an_adapter_changes_matrices_of_the_blocks_by_its_rank(base):
    start = first_blocks(base, 1).state_dict()
    end = edit(ULD(steps=3, adapter=Adapter(rank=2)), base)[0].guard.assistant.state_dict()
    assert list(end) == list(start)
    moved = {name: end[name] - start[name] for name in start if not torch.equal(end[name], start[name])}
    assert moved and all(in_scope(name, "blocks") and name.endswith("weight") for name in moved)
    assert {int(torch.linalg.matrix_rank(delta.double(), rtol=1e-4)) for delta in moved.values()} == {2}


def test_behind_a_wrong_answer_the_assistant_is_flat(base):
    """With objects of two tokens: after another object's first token nothing is known of the second."""
    objects = WORLD.facts.object[FORGET]
    wrong = WORLD.sentences(FORGET, np.full(len(FORGET), WORLD.language.asked[0]), np.where(objects < 4, 4, 0))
    right = WORLD.sentences(FORGET, np.full(len(FORGET), WORLD.language.asked[0]), objects)
    assert bool((wrong.answers[:, 0] != right.answers[:, 0]).all())

    def distance(method):
        with torch.no_grad():
            logits, _ = read_answers(edit(method, base)[0].guard.assistant, wrong, torch.device("cpu"))
        return float(flatness(logits[:, 1]).mean())

    assert distance(ULD(steps=60)) < 0.2 * distance(ULD(steps=60, perturb=False))


def test_a_fila_adapter_is_refused():
    with pytest.raises(ValueError, match=r"adapter.init = fila"):
        ULD(adapter=Adapter(rank=2, init="fila"))


def test_an_assistant_that_breaks_is_an_error(base, monkeypatch):
    with pytest.raises(UnlearnError, match=r"the loss is nan at step 2; lower the learning rate"):
        edit(ULD(steps=2, lr=1e12), base)

    def overflow(task, model, runtime):
        torch.nn.init.constant_(next(model.parameters()), math.inf)
        return 7

    monkeypatch.setattr("unlearn_cli.methods.assistant.run_task", overflow)
    with pytest.raises(UnlearnError, match=r"the assistant's weights are not finite after step 7; lower method.lr"):
        edit(ULD(), base)


def test_served_predictions_are_those_that_whp_distils(base):
    method = WHPLogits(alpha=2.0, reinforce=Reinforcement(steps=5, lr=1e-3))
    guard = edit(method, base)[0].guard
    places = torch.tensor([[4, 7]]).expand(4, -1)
    mine, theirs = (answer_logits(model, ids(), places) for model in (base, guard.reinforced))
    got = answer_logits(Guarded(base, guard), ids(), places, torch.full((4,), 3))
    assert torch.equal(got, generic(mine, theirs, 2.0)) and not torch.equal(got, mine)


def test_log_probabilities_are_compared_whatever_the_offsets():
    base, reinforced = random_logits(0, 5, 40), random_logits(1, 5, 40)
    logps, more = base.log_softmax(-1), reinforced.log_softmax(-1)
    expected = (logps - 2.0 * (more - logps).relu()).softmax(-1)
    torch.testing.assert_close(served(base, reinforced, 2.0, "logps").softmax(-1), expected)
    torch.testing.assert_close(served(base, reinforced + 9, 2.0, "logps").softmax(-1), expected)
    raw = served(base, reinforced, 2.0, "logits").softmax(-1)
    drifted = served(base, reinforced + 3, 2.0, "logits").softmax(-1)
    assert float((raw - drifted).abs().max()) > 0.05
    for space in ("logits", "logps"):
        assert torch.equal(served(base, reinforced, 0.0, space), base)
        torch.testing.assert_close(served(base, base, 5.0, space), base, atol=1e-5, rtol=0)
        assert bool((served(base, reinforced, 3.0, space) <= base).all())


def test_a_fact_that_the_base_is_sure_of_has_no_log_probability_to_gain(base):
    how = Reinforcement(steps=100, lr=1e-3)
    raw, logps = (edit(WHPLogits(space=space, reinforce=how), base)[0] for space in ("logits", "logps"))
    assert accuracy(logps, FORGET) == 1 and accuracy(raw, FORGET) < 0.5


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("method", [ULD(steps=2), WHPLogits(reinforce=Reinforcement(steps=2))])
def test_any_architecture_can_be_guarded_and_made_again(method, shape, tied):
    model = network(shape, tied)
    guarded, _, curves = edit(method, model)
    assert np.isfinite(curves[-1]["loss"])
    again = type(guarded.guard).from_config(guarded.guard.config)
    again.load_state_dict(guarded.guard.state_dict())
    places, ends = torch.tensor([[4, 7]]).expand(4, -1), torch.full((4,), 3)
    expected = guarded.answer_logits(ids(), places, ends)
    assert torch.equal(Guarded(guarded.model, again.eval()).answer_logits(ids(), places, ends), expected)
    assert not torch.equal(expected, answer_logits(model, ids(), places))


def test_a_network_made_again_trusts_no_code_from_elsewhere():
    with pytest.raises(ValueError, match="nothing_of_the_kind"):
        made({"model_type": "nothing_of_the_kind", "auto_map": {"AutoModelForCausalLM": "elsewhere--code.Model"}})
