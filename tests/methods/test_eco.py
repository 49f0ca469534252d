"""ECO: the search by hand, what is corrupted and what is not, one law for one prompt, as shipped."""

import copy

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from unlearn_cli import guards
from unlearn_cli.cli import config_dir
from unlearn_cli.command import parse
from unlearn_cli.composition import Composer
from unlearn_cli.errors import UnlearnError
from unlearn_cli.evaluation import ProbeSet
from unlearn_cli.experiment import parts
from unlearn_cli.guards import store
from unlearn_cli.guards.base import Guarded
from unlearn_cli.guards.eco import noise
from unlearn_cli.machine import Numerics
from unlearn_cli.methods.base import EditContext, EditData
from unlearn_cli.methods.detection import Detection
from unlearn_cli.methods.eco import ECO, Search, entities
from unlearn_cli.methods.eco_reading import root_mean_square
from unlearn_cli.methods.eco_search import descend
from unlearn_cli.methods.ft import FT
from unlearn_cli.models import checkpoint
from unlearn_cli.models.forward import answer_logits
from unlearn_cli.models.gpt_neox import GPTNeoX
from unlearn_cli.predict import predict
from unlearn_cli.training.loop import Runtime
from unlearn_cli.worlds.grammar import Grammar
from unlearn_cli.worlds.tabular import Tabular

CPU = Numerics("cpu", 1, 1, "fp32")
GRAMMAR = Grammar(templates=2, heldout=1, fillers=2)
WORLD = Tabular(subjects=22, relations=2, objects=6, holdout_subjects=2, object_tokens=2, grammar=GRAMMAR).build(0)
FORGET, RETAIN = np.arange(0, 10, 2), np.arange(12, 40)
OTHERS = np.setdiff1d(np.arange(40), FORGET)
FIXED = Search(steps=0)


@pytest.fixture(scope="module")
def base():
    model = GPTNeoX(hidden_size=32, heads=2, mlp_size=64).build(WORLD.vocabulary.size, WORLD.max_length, 0).eval()
    learn = FT(steps=400, lr=1e-2, scope="all", retain_loss="none", stop_loss=0.01)
    learn.edit(model, EditData(WORLD, None, None, WORLD.language), EditContext(Runtime("train", CPU), 0))
    return model


def guarded(method, model, seed=0):
    before = copy.deepcopy(model.state_dict())
    retain = WORLD.only(RETAIN) if "retain" in method.needs else None
    given = EditData(WORLD.only(FORGET), None, retain, WORLD.language)
    report = method.edit(model, given, EditContext(Runtime("edit", CPU), seed))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    return Guarded(model, report.guard), report


def ask(model, facts, batch_size=64):
    probes = ProbeSet(facts, np.zeros(len(facts), dtype=np.int64), WORLD.facts.subject[facts], 6, {})
    return predict(model, WORLD, probes, batch_size)


def rows(facts):
    sentences = WORLD.sentences(np.asarray(facts), np.zeros(len(facts), dtype=np.int64))
    ids, read = torch.from_numpy(sentences.through_answer), torch.from_numpy(sentences.positions - 1)
    return ids, read, read[:, 0]


def test_the_search_by_hand():
    """|s - 1| from s = .3 in steps of .5 times the slope: -1 until it is passed, then +1."""
    asked = []

    def loss(s):
        asked.append(round(s, 6))
        return abs(s - 1)

    best, lowest = descend(loss, 0.3, lr=0.5, eps=0.1, steps=3)
    assert asked == [0.3, 0.2, 0.4, 0.7, 0.9, 1.2, 1.4, 0.8]
    assert (best, lowest) == (pytest.approx(0.9), pytest.approx(0.1))


def test_at_the_bound_the_slope_is_over_the_true_distance():
    """From s = .02 with e = .1 the points are 0 and .12; a slope of -3 over .12 moves by .5 * 3, over .2 by less."""
    asked = []

    def loss(s):
        asked.append(s)
        return 10 - 3 * s

    descend(loss, 0.02, lr=0.5, eps=0.1, steps=1)
    assert asked == pytest.approx([0.02, 0.0, 0.12, 1.52])


def test_a_strength_is_never_negative():
    asked = []
    best, _ = descend(lambda s: asked.append(s) or s, 0.5, lr=10.0, eps=0.1, steps=3)
    assert best == 0 and min(asked) == 0


def test_without_steps_the_strength_is_as_given():
    assert descend(lambda s: s, 0.7, 1.0, 0.1, 0) == (0.7, 0.7)


@pytest.mark.parametrize(
    "nothing",
    [
        ECO(strength=0.0, search=FIXED),
        ECO(dims=0, search=FIXED),
        ECO(corruption="zero_out", dims=0, search=FIXED),
        ECO(corruption="sign_flip", strength=0.0, search=FIXED),
    ],
)
def test_no_corruption_is_the_model(nothing, base):
    model, _ = guarded(nothing, base)
    given = rows(FORGET)  # all of them flagged, and so in the same batch
    assert torch.equal(answer_logits(model, *given), answer_logits(base, *given[:2]))


CORRUPTIONS = ["rand_noise_first_n", "zero_out", "sign_flip"]


@pytest.mark.parametrize("corruption", CORRUPTIONS)
@pytest.mark.parametrize("tokens", ["subject", "all_prompt"])
def test_flagged_prompts_change_and_no_others(corruption, tokens, base):
    model, _ = guarded(ECO(corruption=corruption, tokens=tokens, strength=1.0, search=FIXED), base)
    every = np.arange(40)
    before, after = ask(base, every), ask(model, every)
    for name in vars(before):
        assert np.array_equal(getattr(before, name)[OTHERS], getattr(after, name)[OTHERS])
    assert (before.candidate_logps[FORGET] != after.candidate_logps[FORGET]).any(1).all()


@pytest.mark.parametrize(
    ("corruption", "expected"),
    [("zero_out", lambda e: 0 * e), ("sign_flip", lambda e: -e)],
)
def test_what_reaches_the_model_by_hand(corruption, expected, base):
    """The first 10 numbers of the subject's embeddings; the answer that is read behind the prompt stays."""
    model, _ = guarded(ECO(corruption=corruption, tokens="subject", dims=10, strength=1.0, search=FIXED), base)
    ids, _, end = rows(FORGET)
    whole = base.get_input_embeddings()(ids).detach()
    corrupted = model.guard._corrupt(ids, whole, end)
    role = WORLD.vocabulary["subject"]
    subject = (ids >= role.start) & (ids < role.start + role.size)
    assert subject.sum(1).tolist() == [role.tokens_per_word] * len(ids)
    assert torch.equal(corrupted[~subject], whole[~subject])
    assert torch.equal(corrupted[subject][:, 10:], whole[subject][:, 10:])
    assert torch.equal(corrupted[subject][:, :10], expected(whole[subject][:, :10]))


def test_noise_is_normal_of_the_given_strength_and_behind_the_prompt_there_is_none(base):
    model, _ = guarded(ECO(tokens="all_prompt", strength=3.0, search=FIXED), base)
    ids, _, end = rows(np.arange(40))
    whole = base.get_input_embeddings()(ids).detach()
    change = model.guard._corrupt(ids, whole, end) - whole
    inside = torch.arange(ids.shape[1]) <= end[:, None]
    assert torch.equal(change[~inside], torch.zeros_like(change[~inside]))
    unit = root_mean_square(base)
    assert unit == pytest.approx(float(base.get_input_embeddings().weight.detach().pow(2).mean().sqrt()))
    assert float(change[inside].std()) == pytest.approx(3 * unit, rel=0.03)
    assert float(change[inside].mean()) == pytest.approx(0, abs=0.1 * unit)


def test_noise_is_of_the_prompt_and_the_seed():
    ids, end = torch.tensor([[0, 5, 7, 9], [0, 5, 7, 8], [0, 5, 6, 9]]), torch.tensor([2, 2, 2])
    drawn = noise(0, ids, end, 4)
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])  # what is behind it is not of it
    assert torch.equal(noise(0, ids[2:], end[2:], 4)[0], drawn[2])
    assert not torch.equal(noise(1, ids, end, 4), drawn)
    assert torch.equal(drawn[:, 3], torch.zeros(3, 4))


def test_the_batch_decides_nothing(base):
    model, _ = guarded(ECO(strength=1.0, search=FIXED), base)
    whole, single = ask(model, np.arange(40)), ask(model, np.arange(40), batch_size=1)
    assert np.array_equal(whole.greedy, single.greedy)
    assert whole.candidate_logps == pytest.approx(single.candidate_logps, abs=1e-3)


def test_same_seed_same_bits_another_seed_other_noise(base):
    first, second, other = (guarded(ECO(search=Search(steps=2)), base, seed) for seed in (0, 0, 1))
    assert first[1].notes == second[1].notes and first[0].guard.config == second[0].guard.config
    given = rows(FORGET)
    logits = [answer_logits(model, *given) for model, _ in (first, second, other)]
    assert torch.equal(logits[0], logits[1]) and not torch.equal(logits[0], logits[2])


def test_a_guard_comes_back_from_disk(base, tmp_path):
    model, report = guarded(ECO(tokens="subject", dims=10, search=Search(steps=1)), base)
    checkpoint.save(base, WORLD.vocabulary, tmp_path)
    store.save(report.guard, tmp_path)
    loaded, given = guards.load(tmp_path), rows(np.arange(40))
    assert torch.equal(answer_logits(loaded, *given), answer_logits(model, *given))
    assert loaded.guard.config == model.guard.config


def test_a_probe_can_flag(base):
    method = ECO(detector=Detection(kind="probe", fpr=0.2), strength=1.0, search=FIXED)
    assert method.needs == {"forget", "retain"} and ECO().needs == {"forget"}
    model, report = guarded(method, base)
    flagged = model.guard.detect(base, *rows(np.arange(40))[::2])
    assert report.notes["flagged_forget"] > 0.5 and bool(flagged.any()) and not bool(flagged.all())
    before, after = ask(base, np.arange(40)), ask(model, np.arange(40))
    changed = (before.candidate_logps != after.candidate_logps).any(1)
    assert changed.tolist() == flagged.tolist()


@pytest.mark.parametrize("shape", ["llama", "gpt2"])
def test_other_architectures(shape):
    size, length = WORLD.vocabulary.size, WORLD.max_length
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    if shape == "llama":
        config = LlamaConfig(vocab_size=size, max_position_embeddings=length, tie_word_embeddings=True, **small)
        model = LlamaForCausalLM(config).eval()
    else:
        model = GPT2LMHeadModel(GPT2Config(vocab_size=size, n_positions=length, n_embd=32, n_layer=2, n_head=2)).eval()
    for how in (Detection(), Detection(kind="probe", fpr=0.2)):
        every = guarded(ECO(detector=how, strength=1.0, search=FIXED), model)[0]
        flagged = every.guard.detect(model, *rows(np.arange(40))[::2])
        before, after = ask(model, np.arange(40)), ask(every, np.arange(40))
        changed = (before.candidate_logps != after.candidate_logps).any(1)
        assert changed.tolist() == flagged.tolist() and 0 < sum(changed) < 40


def test_more_dimensions_than_there_are_is_refused(base):
    with pytest.raises(UnlearnError, match=r"method.dims: 33 given; the model's embeddings have 32 dimensions"):
        guarded(ECO(dims=33), base)


def test_subjects_are_told_by_their_tokens():
    role = WORLD.vocabulary["subject"]
    assert entities(WORLD.vocabulary)[0] == [role.start, role.start + role.size]


def test_costs_are_counted(base):
    _, still = guarded(ECO(search=FIXED), base)
    _, searched = guarded(ECO(search=Search(steps=3)), base)
    assert searched.steps == 3
    assert searched.forward_tokens == 8 * still.forward_tokens  # one reading at the start, two a step, one at the end


def test_the_shipped_settings_reach_their_target(base):
    values = OmegaConf.to_container(Composer(parse([], config_dir())).compose(["method=eco"]), resolve=False)
    del values["hydra"]
    method = parts(OmegaConf.to_container(OmegaConf.create(values), resolve=True))["method"]
    model, report = guarded(method, base)
    old = WORLD.facts.object[FORGET]
    before, after = ask(base, FORGET), ask(model, FORGET)
    assert (before.greedy == old).all() and (after.greedy == old).mean() <= 0.4
    assert report.notes["target"] == pytest.approx(1 / 6) and report.notes["distance"] < 0.1
